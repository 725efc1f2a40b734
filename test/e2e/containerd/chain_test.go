// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// The conflist of a node in use gains sockmap. Pods that run are not touched, and can be removed: containerd asks for
// DEL with the list as it is then, so the plugin is told to remove what it has never added.
func TestConflistGainsSockmapWhilePodsRun(t *testing.T) {
	w := newWorldWith(t, func(w *world) { w.writePlugin("exec %s"); w.writeConflist(nil) })
	client, server := w.pair()
	load := client.pod.start(t, "rr", "-connect", at(server.pod.ip4), "-duration", "8s", "-size", "512")
	if calls := w.calls(); len(calls) > 0 {
		t.Fatalf("the plugin is not in the chain, and was called: %q", calls)
	}
	w.writeConflist(map[string]any{})
	w.eventually("containerd has read the conflist", func() bool {
		info, err := w.info()
		return err == nil && strings.Contains(info.source(), `"sockmap"`)
	})

	newServer := w.newPod(t, podSpec{name: "new-server", class: burstable})
	serves := newServer.serve(t)
	newClient := w.newPod(t, podSpec{name: "new-client", class: burstable}).idle(t)
	w.wantRedirected(newClient, at(newServer.ip4))
	w.wantPlain(client, at(newServer.ip4))
	w.wantPlain(newClient, at(server.pod.ip4))
	w.wantPlain(client, at(server.pod.ip4))
	wantReport(t, load)

	for _, old := range []*pod{client.pod, server.pod} {
		id := old.id
		if err := old.remove(); err != nil {
			t.Error(err)
		}
		if w.called("ADD", id) || !w.called("DEL", id) {
			t.Errorf("want DEL without ADD for %s: %q", id, w.calls())
		}
	}
	w.wantEndpoint(newServer)
	w.wantRedirected(newClient, at(newServer.ip4))
	w.wantInPodCgroup(serves)
	w.found("chained while pods run", "pods that run when sockmap is chained stay on TCP, and their DEL succeeds")
}

// What the kernel does wrong keeps acceleration off, until it is accepted. The pods start.
func TestHazardsThatAreNotAccepted(t *testing.T) {
	w := newWorld(t, map[string]any{"acceptHazards": []string{}})
	client, server := w.pair()
	cfg, err := w.datapath().Config()
	if err != nil {
		t.Fatal(err)
	}
	left := hazard.Set(cfg.Hazards &^ cfg.Guarded).Severe()
	if left == 0 { // as a kernel without any has it
		w.wantRedirected(client, at(server.pod.ip4))
		return
	}
	w.wantPlain(client, at(server.pod.ip4))
	var status struct {
		Node struct {
			Endpoints struct {
				Declined int
				Reasons  []struct{ Reason string }
			}
		}
	}
	w.status(&status, "%s")
	if status.Node.Endpoints.Declined != 2 || len(status.Node.Endpoints.Reasons) == 0 {
		t.Fatalf("want two declined pods and the reason in the status: %+v", status)
	}
	for _, name := range left.Names() {
		if reason := status.Node.Endpoints.Reasons[0].Reason; !strings.Contains(reason, name) {
			t.Errorf("the reason %q does not name %s", reason, name)
		}
	}
	w.wantNetworkReady()

	accept := map[string]string{"sockmap-cni/accept-hazards": left.String()}
	brave := w.newPod(t, podSpec{name: "brave", class: burstable, annotations: accept})
	other := w.newPod(t, podSpec{name: "other", class: burstable, annotations: accept})
	other.serve(t)
	w.wantRedirected(brave.idle(t), at(other.ip4))
}

// status reads sockmapctl's, run as how says, %s being the program.
func (w *world) status(into any, how string) {
	w.Helper()
	program := fmt.Sprintf(how, filepath.Join(tools.plugins, "sockmapctl")+" status -o json --bpffs-path "+w.node.BPFFS())
	cmd := w.node.Command(w.Context(), "/bin/sh", "-c", program)
	var out strings.Builder
	cmd.Stdout = &out
	if err := w.node.Start(cmd); err != nil {
		w.Fatal(err)
	}
	_ = cmd.Wait() // the exit code tells of the state, too
	if err := json.Unmarshal([]byte(out.String()), into); err != nil {
		w.Fatalf("status: %v: %s", err, out.String())
	}
}

func (w *world) wantNetworkReady() {
	w.Helper()
	if info, err := w.info(); err != nil || !info.ready("NetworkReady") {
		w.Errorf("the node is not ready: %v, %+v", err, info.Status)
	}
}

// The plugin runs where no cgroup2 is mounted, as on a node with cgroup v1 only.
func TestNoCgroup2(t *testing.T) {
	_, unified, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	without := "exec unshare --mount /bin/sh -c 'umount -l " + unified + " && exec %s'"
	var log string
	w := newWorldWith(t, func(w *world) {
		log = filepath.Join(w.dir, "sockmap.log")
		w.writePlugin(without)
		w.writeConflist(map[string]any{"logFile": log})
	})
	client, server := w.pair()
	out, err := client.exec("rr", "-connect", at(server.pod.ip4), "-count", "1000", "-size", "512")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseReport(out); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(b), "not accelerated") || !strings.Contains(string(b), "cgroup2") {
		t.Errorf("the log does not tell why: %v: %s", err, b)
	}
	var status struct {
		Loaded bool
		Checks []struct {
			Name   string
			OK     bool
			Detail string
			WayOut string
		}
	}
	w.status(&status, without)
	told := false
	for _, c := range status.Checks {
		told = told || c.Name == "cgroup2" && !c.OK && c.Detail != "" && c.WayOut != ""
	}
	if status.Loaded || !told {
		t.Errorf("the status does not tell why: %+v", status)
	}
	w.wantNetworkReady()
	w.found("obstacles", "pods start on TCP, and the status tells why, without cgroup2 or with hazards that are not accepted")
}
