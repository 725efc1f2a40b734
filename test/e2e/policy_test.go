// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

// redirects connects two pods on a port of the server and reports whether their bytes were redirected.
func (w *world) redirects(client, server *lab.Pod, port uint16) bool {
	w.Helper()
	l := listen(w.T, &server.Place, at(server.IP4(), port))
	defer l.Close()
	c, s := connect(w.T, &client.Place, at(server.IP4(), port), l)
	duplex(w.T, c, s, 100<<10)
	for _, f := range ends(w.T, w.datapath(), c, s) {
		if f.RedirectedBytes > 0 {
			return true
		}
	}
	return false
}

func TestPeersDecideWhichPodsRedirect(t *testing.T) {
	for _, tt := range []struct {
		peers                     string
		otherNamespace, other, me bool
	}{
		{"node", true, true, true},
		{"namespace", false, true, true},
		{"pod", false, false, true},
	} {
		t.Run(tt.peers, func(t *testing.T) {
			w := newWorld(t, map[string]any{"peers": tt.peers})
			a, b := w.pod(lab.PodSpec{Namespace: "blue"}), w.pod(lab.PodSpec{Namespace: "blue"})
			c := w.pod(lab.PodSpec{Namespace: "green"})
			if got := w.redirects(a, c, 80); got != tt.otherNamespace {
				t.Errorf("another namespace: %v", got)
			}
			if got := w.redirects(a, b, 80); got != tt.other {
				t.Errorf("another pod of the namespace: %v", got)
			}
			if got := w.redirects(a, a, 80); got != tt.me {
				t.Errorf("the pod itself: %v", got)
			}
		})
	}
}

func TestPortsAreThoseOfThePassiveEnd(t *testing.T) {
	w := newWorld(t, map[string]any{"ports": map[string]any{"include": []string{"80", "8000-8999"},
		"exclude": []string{"8021"}}})
	a, b := w.pod(lab.PodSpec{}), w.pod(lab.PodSpec{})
	for port, want := range map[uint16]bool{80: true, 81: false, 8000: true, 8021: false, 9000: false} {
		if got := w.redirects(a, b, port); got != want {
			t.Errorf("port %d: %v", port, got)
		}
	}
}

func TestAnnotationOverridesTheConfiguration(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		w := newWorld(t, map[string]any{"enabled": enabled})
		on := map[string]string{"sockmap-cni/accelerate": "true"}
		off := map[string]string{"sockmap-cni/accelerate": "false"}
		a, b := w.pod(lab.PodSpec{Annotations: on}), w.pod(lab.PodSpec{Annotations: on})
		out, silent := w.pod(lab.PodSpec{Annotations: off}), w.pod(lab.PodSpec{})
		if !w.redirects(a, b, 80) {
			t.Errorf("enabled %v: two pods that asked for it are not accelerated", enabled)
		}
		if w.redirects(a, out, 80) || w.redirects(out, a, 80) || w.redirects(out, out, 80) {
			t.Errorf("enabled %v: a pod that opted out is accelerated", enabled)
		}
		if got := w.redirects(a, silent, 80); got != enabled {
			t.Errorf("enabled %v: a pod without annotation is accelerated: %v", enabled, got)
		}
	}
}

// Every file of conf/ is used: ADD, traffic, CHECK if its version has it, DEL.
func TestEveryFileOfConfWorks(t *testing.T) {
	root, err := lab.RepoRoot()
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"conf/*.conflist", "conf/examples/*.conflist"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 5 {
		t.Fatalf("only %v", files)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			base, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			node := labtest.NewNode(t, lab.Options{})
			// The only changes are what a node of the lab needs (directories, masquerading) and what this
			// kernel needs.
			conflist := labtest.Conflist(t, node, lab.Network{Base: base, Set: map[string]map[string]any{
				"sockmap": {"acceptHazards": []string{"all"}},
			}})
			w := &world{T: t, node: node, conflist: conflist}
			a, b := w.pod(lab.PodSpec{Namespace: "blue"}), w.pod(lab.PodSpec{Namespace: "blue"})
			port := uint16(8080)
			if !w.redirects(a, b, port) {
				t.Errorf("port %d is not accelerated", port)
			}
			if versionOf(t, conflist) != "0.3.1" {
				if err := node.CHECK(t.Context(), conflist, a); err != nil {
					t.Error(err)
				}
			}
			for _, p := range []*lab.Pod{a, b} {
				if err := p.Delete(t.Context()); err != nil {
					t.Error(err)
				}
			}
			wantNoPins(t, node)
		})
	}
}

func versionOf(t *testing.T, conflist []byte) string {
	t.Helper()
	var list struct{ CNIVersion string }
	if err := json.Unmarshal(conflist, &list); err != nil {
		t.Fatal(err)
	}
	return list.CNIVersion
}

// wantNoPins expects no link of a cgroup: only the node's state is left, without any container.
func wantNoPins(t *testing.T, n *lab.Node) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(n.BPFFS(), "v*", "links", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("links are left: %s", strings.Join(left, ", "))
	}
}
