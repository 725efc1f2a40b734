// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
)

// foreignProgram attaches a foreign sock_ops program, which may use a map. It returns a function that
// detaches it.
func foreignProgram(t testing.TB, path string, uses ...*ebpf.Map) (detach func()) {
	t.Helper()
	return bpftest.Attach(t, bpftest.SockOps(t, uses...), path)
}

// expectRearmed compares the cgroups that have a rearm program, and what the programs know about foreign
// programs.
func expectRearmed(t testing.TB, n *Node, when string, want ...uint64) {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, err := d.RearmLinks()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || len(want) > 0 && got[0] != want[0] {
		t.Errorf("%s: rearmed at %v, want %v", when, got, want)
	}
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Foreign != (len(want) > 0) {
		t.Errorf("%s: programs know of others: %v", when, cfg.Foreign)
	}
}

func mustReap(t testing.TB, n *Node) {
	t.Helper()
	if _, err := n.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAddRearmsAfterAProgramOfTheParentCgroup(t *testing.T) {
	n, parent := newNode(t), newGroup(t)
	pod := newGroupBelow(t, parent.path)
	foreignProgram(t, parent.path)
	sb := container(t, "c1")
	mustAdd(t, n, sb, in(pod))
	expectRearmed(t, n, "after ADD", parent.id)
	found, err := n.Neighbours()
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].CgroupPath != parent.path || found[0].Links != 1 || !found[0].After ||
		found[0].Last {
		t.Errorf("neighbours are %+v", found)
	}
	mustDel(t, n, sb)
	mustReap(t, n)
	expectRearmed(t, n, "after DEL and reaping")
}

func TestReapRearmsAfterLaterPrograms(t *testing.T) {
	n, parent := newNode(t), newGroup(t)
	pod := newGroupBelow(t, parent.path)
	mustAdd(t, n, container(t, "c1"), in(pod))
	expectRearmed(t, n, "alone")
	detach := foreignProgram(t, parent.path)
	mustReap(t, n)
	expectRearmed(t, n, "after a program has come", parent.id)
	again := foreignProgram(t, parent.path)
	if found, err := n.Neighbours(); err != nil || len(found) != 2 || !found[1].Last {
		t.Errorf("error %v, neighbours are %+v, want the second to be last", err, found)
	}
	mustReap(t, n)
	expectRearmed(t, n, "after another one", parent.id)
	if found, err := n.Neighbours(); err != nil || len(found) != 2 || found[1].Last {
		t.Errorf("error %v, neighbours are %+v, want none to be last", err, found)
	}
	detach()
	again()
	mustReap(t, n)
	expectRearmed(t, n, "after both have gone")
}

// Nothing can be attached behind the 64 programs that a cgroup holds.
func TestFullParentCgroupKeepsContainersOnTCP(t *testing.T) {
	n, parent := newNode(t), newGroup(t)
	pod := newGroupBelow(t, parent.path)
	running := container(t, "running")
	mustAdd(t, n, running, in(pod))
	var detach func()
	for range 64 {
		detach = foreignProgram(t, parent.path)
	}
	mustReap(t, n)
	expectTakesPart(t, n, running, false)
	late := newGroupBelow(t, parent.path)
	if _, err := n.Add(t.Context(), container(t, "late"), in(late)); !errors.Is(err, datapath.ErrNeighbour) {
		t.Errorf("error %v, want an ErrNeighbour", err)
	}
	if s := stateOf(t, n); len(s.Links) != 1 || len(s.Records) != 1 {
		t.Errorf("the ADD has left something: %+v", s)
	}
	detach()
	mustReap(t, n)
	expectTakesPart(t, n, running, true)
	expectRearmed(t, n, "once there is room", parent.id)
}

func expectTakesPart(t testing.TB, n *Node, sb Sandbox, want bool) {
	t.Helper()
	r, ok, err := opened(t, n).Endpoint(cookieOf(t, sb.NetNSPath))
	if err != nil || !ok || r.Foreign == want {
		t.Errorf("registered %v, error %v, foreign %v; want it to take new connections: %v", ok, err, r.Foreign,
			want)
	}
}

func TestAddYieldsToTheOwnerOfASockhash(t *testing.T) {
	n, parent := newNode(t), newGroup(t)
	pod := newGroupBelow(t, parent.path)
	detach := foreignProgram(t, parent.path, bpftest.Sockhash(t))
	sb := container(t, "c1")
	_, err := n.Add(t.Context(), sb, in(pod))
	if !errors.Is(err, datapath.ErrNeighbour) || !strings.Contains(err.Error(), "their_socks") ||
		!strings.Contains(err.Error(), "coexist") {
		t.Errorf("error %v, want an ErrNeighbour that names the map and the key", err)
	}
	if s := stateOf(t, n); len(s.Links) != 0 || len(s.Records) != 0 {
		t.Errorf("the ADD has left something: %+v", s)
	}
	if _, _, err := n.AttachCgroup(t.Context(), pod.path); !errors.Is(err, datapath.ErrNeighbour) {
		t.Errorf("sockmapctl attach: error %v, want an ErrNeighbour", err)
	}
	detach()
	mustAdd(t, n, sb, in(pod))
	// A program that is attached later does not change what a container has.
	foreignProgram(t, parent.path, bpftest.Sockhash(t))
	mustReap(t, n)
	mustAdd(t, n, sb, in(pod))
	expectOnly(t, n, "after the owner has come back", pod, sb)
}

func TestCoexistShareAcceleratesNextToASockhashOwner(t *testing.T) {
	n, parent := newNode(t), newGroup(t)
	n.Settings.Coexist = datapath.CoexistShare
	pod := newGroupBelow(t, parent.path)
	foreignProgram(t, parent.path, bpftest.Sockhash(t))
	sb := container(t, "c1")
	mustAdd(t, n, sb, in(pod))
	expectOnly(t, n, "with coexist share", pod, sb)
	// The configuration may change: running containers keep what they have.
	n.Settings.Coexist = datapath.CoexistYield
	if _, err := n.Add(t.Context(), container(t, "c2"), in(newGroupBelow(t, parent.path))); !errors.Is(err,
		datapath.ErrNeighbour) {
		t.Errorf("error %v, want an ErrNeighbour", err)
	}
	expectOnly(t, n, "with coexist yield again", pod, sb)
}

func TestUpgradeExchangesRearm(t *testing.T) {
	n, parent := newNode(t), newGroup(t)
	pod := newGroupBelow(t, parent.path)
	foreignProgram(t, parent.path)
	mustAdd(t, n, container(t, "c1"), in(pod))
	state := filepath.Join(n.Dir, stateName(datapath.ABI))
	pin := filepath.Join(state, "links", "rearm-*")
	before := programOfPin(t, pin)
	if err := os.Remove(filepath.Join(state, "programs")); err != nil { // an unfinished upgrade
		t.Fatal(err)
	}
	if up, err := n.Upgrade(t.Context()); err != nil || up.Kind != UpgradePrograms || up.Cgroups != 1 {
		t.Fatalf("upgrade %+v, error %v", up, err)
	}
	if after := programOfPin(t, pin); after == before {
		t.Errorf("rearm is still program %d", before)
	}
	expectRearmed(t, n, "after the upgrade", parent.id)
}

func programOfPin(t testing.TB, pattern string) ebpf.ProgramID {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("pins %v, error %v", found, err)
	}
	return bpftest.ProgramOf(t, found[0])
}
