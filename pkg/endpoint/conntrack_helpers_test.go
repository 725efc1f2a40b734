// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// module makes a kernel module appear on the node.
func (n *Node) module(t testing.TB, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(n.Root, "sys/module", name), 0o755); err != nil {
		t.Fatal(err)
	}
}

func wantHelperPorts(t *testing.T, n *Node, when string, want ...uint16) {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, _, err := d.HelperPorts()
	if err != nil {
		t.Fatal(err)
	}
	var ranges []datapath.PortRange
	for _, p := range want {
		ranges = append(ranges, datapath.PortRange{First: p, Last: p})
	}
	if diff := cmp.Diff(ranges, got); diff != "" {
		t.Errorf("%s: ports of helpers differ: %s", when, diff)
	}
}

func epochOf(t *testing.T, n *Node) uint32 {
	t.Helper()
	return configOf(t, n).Epoch
}

func TestPortsOfHelpersAreKeptUpToDate(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	n.Root = t.TempDir()
	n.module(t, "kernel")
	if _, err := n.RefreshHelpers(t.Context()); !errors.Is(err, datapath.ErrNotLoaded) {
		t.Errorf("refresh before a load: %v, want ErrNotLoaded", err)
	}
	load(t, n)
	wantHelperPorts(t, n, "no module")
	n.module(t, "nf_conntrack_irc")
	mustAdd(t, n, container(t, "one"), in(g))
	wantHelperPorts(t, n, "ADD", 6667)
	mustAdd(t, n, container(t, "two"), in(g))
	wantHelperPorts(t, n, "second ADD", 6667)
	n.module(t, "nf_conntrack_ftp")
	for _, want := range []bool{true, false} {
		before := epochOf(t, n)
		if changed, err := n.RefreshHelpers(t.Context()); changed != want || err != nil {
			t.Errorf("refresh: changed %v, %v; want %v", changed, err, want)
		}
		wantHelperPorts(t, n, "refresh", 21, 6667)
		if asked := epochOf(t, n) != before; asked != want {
			t.Errorf("live flows ask again: %v, want %v: when the ports change, and only then", asked, want)
		}
	}
	if err := os.RemoveAll(filepath.Join(n.Root, "sys/module/nf_conntrack_irc")); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHelperPorts(t, n, "load with one module less", 21)
	n.Root = filepath.Join(n.Root, "nowhere")
	mustAdd(t, n, container(t, "three"), in(g))
	wantHelperPorts(t, n, "nothing can be read", 21, 1720, 1723, 5060, 6566, 6667)
}
