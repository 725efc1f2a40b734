// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds each wait of a test.
const patience = 2 * time.Minute

const servePort = "8080"

// eventually calls f until it returns no error.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	if err := poll(what, patience, f); err != nil {
		t.Fatal(err)
	}
}

// k runs kubectl.
func k(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl(args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// workload is a Deployment of the load program.
type workload struct {
	name        string
	args        []string // arguments of the program
	replicas    int
	annotations map[string]string
	hostNetwork bool
	// graceful pods of a service continue to serve until all clients know that they are terminating, as every
	// real server must.
	graceful bool
}

// server is a workload that echoes.
func server(name string) workload {
	return workload{name: name, args: []string{"serve", "-listen", ":" + servePort}, replicas: 1}
}

// client is a workload that sends requests for ever.
func client(name, target string, args ...string) workload {
	return workload{name: name, args: append([]string{"run", "-connect", target}, args...), replicas: 1}
}

type object map[string]any

// deployment is the object for the API server.
func (w workload) deployment() object {
	labels := object{"app": w.name}
	container := object{"name": "load", "image": loadImage, "imagePullPolicy": "Never", "args": w.args}
	if w.args[0] == "serve" && !w.hostNetwork {
		container["readinessProbe"] = object{"tcpSocket": object{"port": 8080}, "periodSeconds": 1}
	}
	grace := 1
	if w.graceful {
		grace = 30
		container["lifecycle"] = object{"preStop": object{"sleep": object{"seconds": 5}}}
	}
	return object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": w.name, "labels": labels},
		"spec": object{
			"replicas": w.replicas, "selector": object{"matchLabels": labels},
			"strategy": object{"rollingUpdate": object{"maxUnavailable": 0, "maxSurge": 1}},
			"template": object{
				"metadata": object{"labels": labels, "annotations": w.annotations},
				"spec": object{
					"hostNetwork": w.hostNetwork, "terminationGracePeriodSeconds": grace, "containers": []object{container},
					"automountServiceAccountToken": false, "enableServiceLinks": false, "dnsPolicy": "Default",
				},
			},
		},
	}
}

// service is the ClusterIP service of a workload, at port 80.
func (w workload) service() object {
	return object{
		"apiVersion": "v1", "kind": "Service", "metadata": object{"name": w.name},
		"spec": object{"selector": object{"app": w.name}, "ports": []object{{"port": 80, "targetPort": 8080}}},
	}
}

// apply creates or changes objects at the API server.
func apply(t *testing.T, objects ...object) {
	t.Helper()
	b, err := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "objects.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	k(t, "apply", "-f", file)
}

// deploy makes workloads, and waits until all of their pods are ready. They are deleted at the end of the
// test.
func deploy(t *testing.T, all ...workload) {
	t.Helper()
	for _, w := range all {
		apply(t, w.deployment())
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(report(w.name))
			}
			k(t, "delete", "deployment", w.name, "--cascade=foreground", "--wait=true", "--timeout=90s",
				"--ignore-not-found")
		})
	}
	for _, w := range all {
		rolledOut(t, "deployment/"+w.name)
	}
}

func rolledOut(t *testing.T, what string, args ...string) {
	t.Helper()
	k(t, append([]string{"rollout", "status", what, "--timeout=120s"}, args...)...)
}

// expose makes the service of a workload until the end of the test, and returns its address.
func expose(t *testing.T, w workload) string {
	t.Helper()
	apply(t, w.service())
	t.Cleanup(func() { k(t, "delete", "service", w.name) })
	address := k(t, "get", "service", w.name, "-o", "jsonpath={.spec.clusterIP}") + ":80"
	answered(t, address)
	return address
}

// answered waits until the node's rules lead from the service's address to a pod.
func answered(t *testing.T, address string) {
	t.Helper()
	eventually(t, address+" is answered", func() error {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// report has the facts that help to find out why a workload fails.
func report(name string) string {
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide", "-l", "app=" + name},
		{"logs", "--tail=3", "-l", "app=" + name},
		{"get", "events", "--sort-by=.lastTimestamp", "--field-selector=type!=Normal,reason!=CgroupV1"},
	} {
		out, err := kubectl(args...)
		if err != nil {
			out = []byte(err.Error())
		}
		out = out[max(0, len(out)-2000):]
		fmt.Fprintf(&b, "kubectl %s\n%s\n", strings.Join(args, " "), out)
	}
	return b.String()
}

// pod has the fields of a pod that the tests need.
type pod struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp string
	}
	Status struct {
		PodIP             string
		ContainerStatuses []struct {
			RestartCount int
			ContainerID  string
		}
	}
}

func (p pod) at() string { return p.Status.PodIP + ":" + servePort }

// pods are the pods of a workload that are not terminating.
func pods(t *testing.T, name string) (found []pod) {
	t.Helper()
	var list struct{ Items []pod }
	if err := json.Unmarshal([]byte(k(t, "get", "pods", "-l", "app="+name, "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Items {
		if p.Metadata.DeletionTimestamp == "" {
			found = append(found, p)
		}
	}
	return found
}

// podOf is the pod of a workload that has one.
func podOf(t *testing.T, name string) pod {
	t.Helper()
	found := pods(t, name)
	if len(found) != 1 {
		t.Fatalf("%s has %d pods, want 1", name, len(found))
	}
	return found[0]
}

// wantSame expects that a workload still has this pod, and that no container in it was restarted.
func wantSame(t *testing.T, name string, before pod) {
	t.Helper()
	now := podOf(t, name)
	if now.Metadata.UID != before.Metadata.UID || len(now.Status.ContainerStatuses) != 1 ||
		now.Status.ContainerStatuses[0] != before.Status.ContainerStatuses[0] {
		t.Errorf("the pod of %s was %+v, and is now %+v", name, before, now)
	}
}
