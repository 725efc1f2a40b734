// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"golang.org/x/sys/unix"
)

var defaults = datapath.Settings{MaxSockets: 1024, MaxBacklogBytes: 1 << 20, MaxBacklogMessages: 1024,
	Version: "test"}

// newNode returns a node whose state is on a bpffs of the test. Nothing is loaded.
func newNode(t testing.TB) *Node {
	t.Helper()
	mount := t.TempDir()
	if err := unix.Mount("bpf", mount, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	n := &Node{Dir: filepath.Join(mount, "sockmap"), Settings: defaults, Root: t.TempDir()}
	n.module(t, "nf_conntrack_ftp") // with a conntrack helper, every first load has one more step
	t.Cleanup(func() {
		n.Step, n.Mount = nil, nil
		if _, err := n.Unload(context.Background(), true); err != nil {
			t.Errorf("unload: %v", err)
		}
		// Pins go with the mount, whatever the test leaves.
		unmount(t, mount)
	})
	return n
}

// unmount waits for calls that gave up waiting for a lock: they close the directory a little later.
func unmount(t testing.TB, mount string) {
	t.Helper()
	var err error
	fixture.Within(patience, func() bool { err = unix.Unmount(mount, 0); return !errors.Is(err, unix.EBUSY) })
	if err != nil {
		t.Errorf("unmount bpffs: %v", err)
	}
}

func cgroupMount(t testing.TB) cgroup.Mount {
	t.Helper()
	m, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// group is a cgroup of the test.
type group struct {
	path string
	id   uint64
}

func newGroup(t testing.TB) group {
	t.Helper()
	return newGroupBelow(t, cgroupMount(t).Path)
}

func newGroupBelow(t testing.TB, parent string) group {
	t.Helper()
	path, err := os.MkdirTemp(parent, "sockmap-endpoint-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeGroup(t, path) })
	return openGroup(t, path)
}

func openGroup(t testing.TB, path string) group {
	t.Helper()
	dir, id, err := cgroup.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	dir.Close()
	return group{path, id}
}

func removeGroup(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove cgroup: %v", err)
	}
}

// newNetNS makes a network namespace for a sandbox.
func newNetNS(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	netnstest.Mount(t, path)
	return path
}

// removeNetNS does what a runtime does when a sandbox ends.
func removeNetNS(t testing.TB, path string) {
	t.Helper()
	netnstest.Unmount(path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func cookieOf(t testing.TB, path string) uint64 {
	t.Helper()
	id, err := netns.Identify(path)
	if err != nil {
		t.Fatal(err)
	}
	return id.Cookie
}

// container is a sandbox with its own network namespace.
func container(t testing.TB, id string) Sandbox {
	t.Helper()
	return Sandbox{Network: "net", ContainerID: id, IfName: "eth0", NetNSPath: newNetNS(t)}
}

func in(g group) Want { return Want{CgroupPath: g.path} }

func mustAdd(t testing.TB, n *Node, sb Sandbox, want Want) Outcome {
	t.Helper()
	out, err := n.Add(t.Context(), sb, want)
	if err != nil {
		t.Fatalf("add %s: %v", sb.ContainerID, err)
	}
	return out
}

func mustDel(t testing.TB, n *Node, sb Sandbox) {
	t.Helper()
	if err := n.Del(t.Context(), sb.Network, sb.ContainerID, sb.IfName); err != nil {
		t.Fatalf("del %s: %v", sb.ContainerID, err)
	}
}

// state is everything that a node has registered.
type state struct {
	Records   []string // container/interface, with "!" in front of declined ones
	Links     []string // names of pins
	Endpoints []string // netns cookies, with "!" in front of those that are not accelerated
	Totals    int      // number of network namespaces
}

func stateOf(t testing.TB, n *Node) state {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return state{}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var s state
	attachments, err := d.Attachments()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range attachments {
		s.Records = append(s.Records, mark(r.Declined == "")+r.ContainerID+"/"+r.IfName)
	}
	links, err := d.LinkKeys()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		s.Links = append(s.Links, l.String())
	}
	endpoints, err := d.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	for cookie, accelerate := range endpoints {
		s.Endpoints = append(s.Endpoints, mark(accelerate)+fmt.Sprint(cookie))
	}
	totals, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	s.Totals = len(totals) - 1 // one is the entry of unregistered sockets
	for _, list := range [][]string{s.Records, s.Links, s.Endpoints} {
		slices.Sort(list)
	}
	return s
}

func mark(yes bool) string {
	if yes {
		return ""
	}
	return "!"
}

// accelerated is the state in which these sandboxes are registered, each in its cgroup.
func accelerated(t testing.TB, groups map[string]group, sandboxes ...Sandbox) state {
	t.Helper()
	var s state
	for _, sb := range sandboxes {
		s.Records = append(s.Records, sb.ContainerID+"/"+sb.IfName)
		s.Links = append(s.Links, linkOf(groups[sb.ContainerID]))
		s.Endpoints = append(s.Endpoints, fmt.Sprint(cookieOf(t, sb.NetNSPath)))
	}
	for _, list := range []*[]string{&s.Records, &s.Links, &s.Endpoints} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	s.Totals = len(s.Endpoints)
	return s
}

func linkOf(g group) string { return datapath.LinkKey{CgroupID: g.id}.String() }

func expect(t testing.TB, n *Node, when string, want state) {
	t.Helper()
	if diff := cmp.Diff(want, stateOf(t, n)); diff != "" {
		t.Fatalf("%s: state differs (-want +got):\n%s", when, diff)
	}
}

func expectOnly(t testing.TB, n *Node, when string, g group, sandboxes ...Sandbox) {
	t.Helper()
	groups := map[string]group{}
	for _, sb := range sandboxes {
		groups[sb.ContainerID] = g
	}
	expect(t, n, when, accelerated(t, groups, sandboxes...))
	for _, sb := range sandboxes {
		if err := n.Check(t.Context(), sb); err != nil {
			t.Errorf("%s: check %s: %v", when, sb.ContainerID, err)
		}
	}
}

// stateName is the name of the directory in which the state of an ABI is pinned.
func stateName(abi uint32) string { return fmt.Sprintf("v%d", abi) }

// opened opens the state of a node until the test ends.
func opened(t testing.TB, n *Node) *datapath.Datapath {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func configOf(t testing.TB, n *Node) datapath.Config {
	t.Helper()
	cfg, err := n.config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
