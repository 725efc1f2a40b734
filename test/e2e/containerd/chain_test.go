// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// sockmap is added to the conflist of a node in use. Running pods are not touched, and can be removed:
// containerd calls DEL with the current list, so the plugin gets a DEL for pods that it has never added.
func TestConflistGainsSockmapWhilePodsRun(t *testing.T) {
	w := newWorldWith(t, func(w *world) { w.WritePlugin("exec %s"); w.WriteConflist(nil) })
	client, server := w.pair()
	load := client.pod.startLoad(t, "rr", crinode.At(server.pod.ip4))
	if calls := w.Calls(); len(calls) > 0 {
		t.Fatalf("the plugin is not in the chain, and was called: %q", calls)
	}
	w.WriteConflist(map[string]any{})
	w.Eventually("containerd has read the conflist", func() bool {
		info, err := w.info()
		return err == nil && strings.Contains(info.source(), `"sockmap"`)
	})

	newServer := w.newPod(t, podSpec{name: "new-server", class: burstable})
	serves := newServer.serve(t)
	newClient := w.newPod(t, podSpec{name: "new-client", class: burstable}).idle(t)
	w.WantRedirected(newClient, crinode.At(newServer.ip4))
	w.WantPlain(client, crinode.At(newServer.ip4))
	w.WantPlain(newClient, crinode.At(server.pod.ip4))
	w.WantPlain(client, crinode.At(server.pod.ip4))
	wantReport(t, load)

	for _, old := range []*pod{client.pod, server.pod} {
		id := old.id
		if err := old.remove(); err != nil {
			t.Error(err)
		}
		if w.Called("ADD", id) || !w.Called("DEL", id) {
			t.Errorf("want DEL without ADD for %s: %q", id, w.Calls())
		}
	}
	w.wantEndpoint(newServer)
	w.WantRedirected(newClient, crinode.At(newServer.ip4))
	w.wantInPodCgroup(serves)
	w.Found("chained while pods run",
		"pods that run when sockmap is chained stay on TCP and their DEL succeeds, new ones redirect %s", w.Share())
}

// The kernel's hazards keep acceleration off until they are accepted. The pods start anyway.
func TestHazardsThatAreNotAccepted(t *testing.T) {
	w := newWorld(t, map[string]any{"acceptHazards": []string{}})
	client, server := w.pair()
	cfg, err := w.Datapath().Config()
	if err != nil {
		t.Fatal(err)
	}
	left := hazard.Set(cfg.Hazards &^ cfg.Guarded).Severe()
	if left == 0 { // as on a kernel without hazards
		w.WantRedirected(client, crinode.At(server.pod.ip4))
		w.Found("hazards", "this kernel has no hazards")
		return
	}
	w.WantPlain(client, crinode.At(server.pod.ip4))
	for _, name := range left.Names() {
		w.wantReasonInStatus(2, name)
	}
	w.wantNetworkReady()

	accept := map[string]string{"sockmap-cni/accept-hazards": left.String()}
	brave := w.newPod(t, podSpec{name: "brave", class: burstable, annotations: accept})
	other := w.newPod(t, podSpec{name: "other", class: burstable, annotations: accept})
	other.serve(t)
	w.WantRedirected(brave.idle(t), crinode.At(other.ip4))
	w.Found("hazards",
		"pods start on TCP, and the status has the reason, with hazards (%s) that are not accepted; by annotation, %s",
		left, w.Share())
}

// wantReasonInStatus expects that sockmapctl reports so many pods as not accelerated, with the reason.
func (w *world) wantReasonInStatus(declined int, reason string) {
	w.Helper()
	text := w.Status()
	var status struct {
		Node struct {
			Attachments struct {
				Declined int
				Reasons  []struct{ Words string }
			}
		}
	}
	if err := json.Unmarshal(text, &status); err != nil {
		w.Fatalf("status: %v: %s", err, text)
	}
	is := status.Node.Attachments
	if is.Declined != declined || len(is.Reasons) != 1 || !strings.Contains(is.Reasons[0].Words, reason) {
		w.Errorf("want %d declined because of %q: %+v", declined, reason, is)
	}
}

func (w *world) wantNetworkReady() {
	w.Helper()
	if info, err := w.info(); err != nil || !info.ready("NetworkReady") {
		w.Errorf("the node is not ready: %v, %+v", err, info.Status)
	}
}

// The plugin runs where no cgroup2 is mounted, and where it cannot mount one itself because it has no
// directory for it.
func TestNoCgroup2(t *testing.T) {
	_, unified, err := lab.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	without := "exec unshare --mount /bin/sh -c 'umount -l " + unified +
		" && mount --rbind /run /run && mount -o remount,bind,ro /run && exec %s'"
	log := filepath.Join(t.TempDir(), "sockmap.log")
	w := newWorld(t, map[string]any{"logFile": log})
	client := w.newPod(t, podSpec{name: "client", class: burstable}).idle(t)
	w.wantEndpoint(client.pod)
	w.WritePlugin(without)
	server := w.newPod(t, podSpec{name: "server", class: burstable})
	server.serve(t)
	w.WantPlain(client, crinode.At(server.ip4))

	reason := w.record(server).Declined
	if !strings.Contains(reason, "cgroup2") {
		t.Errorf("recorded: %q", reason)
	}
	b, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(b), "not accelerated") || !strings.Contains(string(b), reason) {
		t.Errorf("the log does not have the reason: %v: %s", err, b)
	}
	w.wantReasonInStatus(1, reason)
	w.wantNetworkReady()
	w.Found("no cgroup2", "a pod starts on TCP, and the status has the reason, where there is no cgroup2")
}
