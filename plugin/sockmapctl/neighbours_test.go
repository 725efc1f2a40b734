// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

func TestStatusNamesTheOwnerOfASockhash(t *testing.T) {
	n, parent, ns := newLoadedNode(t), newGroup(t), netnstest.New(t)
	path := filepath.Join(parent.path, "pod")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	n.add(t, endpoint.Sandbox{ContainerID: "c1"}, ns, &group{path: path})
	if screen := n.ok(t, "status"); strings.Contains(screen, "\nneighbours ") {
		t.Errorf("there is none:\n%s", screen)
	}
	bpftest.Attach(t, bpftest.SockOps(t, bpftest.Sockhash(t)), parent.path)
	screen := n.ok(t, "status")
	for _, want := range []string{"\nneighbours  somebodys (id ", "at " + parent.path,
		"owns sockmap their_socks", "EBUSY", "coexist is yield"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in\n%s", want, screen)
		}
	}
	var s statusView
	n.read(t, &s, "status")
	if all := s.Node.Neighbours; len(all) != 1 || all[0].Name != "somebodys" || all[0].Cgroup != parent.path ||
		all[0].Links != 1 ||
		!all[0].Last || all[0].Sockmap != "their_socks" || s.Node.Coexist != coexistYield {
		t.Errorf("neighbours are %+v, coexist %q", all, s.Node.Coexist)
	}
	n.ok(t, "gc")
	n.read(t, &s, "status")
	if all := s.Node.Neighbours; len(all) != 1 || all[0].Last || !all[0].After {
		t.Errorf("after gc neighbours are %+v, want none to be last", all)
	}
	screen = n.ok(t, asked("doctor")...)
	for _, want := range []string{"PRESENT (severe for the other): somebodys", "owns sockmap their_socks",
		`"coexist"`} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in\n%s", want, screen)
		}
	}
}

func TestEffectOfANeighbourIsDescribed(t *testing.T) {
	for _, tt := range []struct {
		v      neighbourView
		shares bool
		want   string
	}{
		{neighbourView{}, false, ""},
		{neighbourView{After: true}, false, "asks for its callbacks again"},
		{neighbourView{After: true, Last: true}, false, "sockmapctl gc"},
		{neighbourView{Sockmap: "m", After: true}, false, "are left to it (coexist is yield)"},
		{neighbourView{Sockmap: "m", Links: 1}, false, "came after containers that are accelerated"},
		{neighbourView{Sockmap: "m", Links: 1}, true, "coexist is share"},
	} {
		got := tt.v.effect(tt.shares)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%+v, shares %v: %q", tt.v, tt.shares, got)
		}
	}
}
