// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	namespace = "kube-system"
	release   = "sockmap-cni"
	daemonSet = "daemonset/" + release
)

// helm runs Helm on the release.
func helm(verb string, args ...string) ([]byte, error) {
	return command("helm", append([]string{verb, release, "--namespace", namespace}, args...)...)
}

// chartValues are the values of every installation here.
func chartValues(version string) []string {
	return []string{
		tools.root + "/conf/kubernetes/chart", "--wait", "--timeout", "3m",
		"--set", "image.repository=" + agentRepository, "--set", "image.tag=" + version,
		"--set", "image.pullPolicy=Never", "--set", "cni.acceptHazards={all}",
	}
}

// install installs a version, if it is not installed, as the chart's README describes.
func install(t *testing.T, version string, more ...string) {
	t.Helper()
	out, err := helm("upgrade", append(append(chartValues(version), "--install"), more...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, agentReport())
	}
	t.Logf("helm: %s", firstLines(string(out), 6))
	rolledOut(t, daemonSet, "-n", namespace)
	if got := statusOfNode(t); got.Version != version || !got.Loaded || !got.Accelerating {
		t.Fatalf("after the installation of %s: %+v", version, got)
	}
}

// installed makes sure that some version is installed.
func installed(t *testing.T) {
	t.Helper()
	if _, err := helm("status"); err != nil {
		install(t, oldVersion)
	}
}

func firstLines(text string, n int) string {
	lines := strings.SplitN(text, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

// agentReport has the facts that help to find out why an agent does not work.
func agentReport() string {
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "all", "-o", "wide"}, {"describe", "pods"}, {"logs", daemonSet, "--tail=30"},
	} {
		out, err := kubectl(append([]string{"-n", namespace}, args...)...)
		if err != nil {
			out = []byte(err.Error())
		}
		fmt.Fprintf(&b, "kubectl %s\n%s\n", strings.Join(args, " "), out)
	}
	return b.String()
}

// sockmapctl runs sockmapctl in the agent's pod, as docs/OPERATIONS.md describes.
func sockmapctl(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := kubectl(append([]string{"-n", namespace, "exec", daemonSet, "--", "/usr/local/bin/sockmapctl"},
		args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// nodeStatus has the fields of `sockmapctl status` that the tests need.
type nodeStatus struct {
	Loaded, Accelerating bool
	Version              string
	Node                 *struct {
		LoadedVersion string
		LoadedAt      time.Time
		Hazards       struct{ Open, Guarded []string }
		Attachments   struct{ Accelerated, Declined, Dead int }
	}
}

func statusOfNode(t *testing.T) (s nodeStatus) {
	t.Helper()
	if err := json.Unmarshal(sockmapctl(t, "status", "-o", "json"), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// attachment is one CNI ADD, as sockmapctl lists it.
type attachment struct {
	Namespace, Pod, Reason    string
	Accelerated               bool
	RedirectedBytes, TCPBytes uint64
}

// attachmentOf is the attachment of a pod, nil if there is none.
func attachmentOf(t *testing.T, pod string) *attachment {
	t.Helper()
	var all struct{ Items []attachment }
	if err := json.Unmarshal(sockmapctl(t, "attachments", "-o", "json"), &all); err != nil {
		t.Fatal(err)
	}
	for _, e := range all.Items {
		if e.Pod == pod {
			return &e
		}
	}
	return nil
}

// wantAccelerated expects that sockmapctl lists a pod as accelerated.
func wantAccelerated(t *testing.T, pods ...pod) {
	t.Helper()
	for _, p := range pods {
		if e := attachmentOf(t, p.Metadata.Name); e == nil || !e.Accelerated {
			t.Errorf("%s: %+v, want it accelerated", p.Metadata.Name, e)
		}
	}
}

// standing is the state of a pod, as adopt reports it.
type standing struct{ State, Reason string }

// standings are the states of all pods of the node, by name, as `sockmapctl adopt --all` would report them.
func standings(t *testing.T) map[string]standing {
	t.Helper()
	var all struct {
		Items []struct {
			Pod string
			standing
		}
	}
	if err := json.Unmarshal(sockmapctl(t, "adopt", "--all", "--dry-run", "-o", "json"), &all); err != nil {
		t.Fatal(err)
	}
	byName := map[string]standing{}
	for _, s := range all.Items {
		byName[s.Pod] = s.standing
	}
	return byName
}

// samples are metrics of the agent, one per line.
type samples struct{ lines []string }

// metrics are read as Prometheus reads them.
func metrics() (s samples, err error) {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get("http://" + nodeIP.Addr().String() + ":9469/metrics")
	if err != nil {
		return s, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return s, errors.New(response.Status)
	}
	for lines := bufio.NewScanner(io.LimitReader(response.Body, 16<<20)); lines.Scan(); {
		if line := lines.Text(); !strings.HasPrefix(line, "#") {
			s.lines = append(s.lines, line)
		}
	}
	return s, nil
}

// sum adds up the series of a metric that have all of the labels.
func (s samples) sum(metric string, labels ...string) (total float64) {
next:
	for _, line := range s.lines {
		rest, ok := strings.CutPrefix(line, metric+"{")
		if !ok {
			rest, ok = strings.CutPrefix(line, metric+" ")
		}
		if !ok {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue next
			}
		}
		value, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
		if err == nil {
			total += value
		}
	}
	return total
}

// grep returns the lines that contain a text, for messages.
func (s samples) grep(part string) string {
	var found []string
	for _, line := range s.lines {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "\n")
}
