// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// programSteps are those of an upgrade within one ABI on a node with two links, each with the number of steps
// of its name before it.
var programSteps = []call{
	{Kill: "mark"}, {Kill: "guards"}, {Kill: "programs"}, {Kill: "verdict"}, {Kill: "link"},
	{Kill: "link", Skip: 1},
	{Kill: "version"}, {Kill: "finish"},
}

// mapSteps are those of an upgrade from another ABI on such a node. Records and links are carried over twice,
// see datapath.Settle.
var mapSteps = []call{
	{Kill: "build"}, {Kill: "carry attachments"}, {Kill: "carry totals"}, {Kill: "carry endpoints"},
	{Kill: "carry avoid"},
	{Kill: "carry link"}, {Kill: "carry link", Skip: 1}, {Kill: "publish"},
	{Kill: "carry attachments", Skip: 1}, {Kill: "carry totals", Skip: 1}, {Kill: "carry endpoints", Skip: 1},
	{Kill: "carry avoid", Skip: 1}, {Kill: "carry link", Skip: 2}, {Kill: "carry link", Skip: 3},
	{Kill: "detach old link"}, {Kill: "detach old link", Skip: 1}, {Kill: "drain"},
	{Kill: "helpers"},
}

func killsOf(calls []call) (steps []string) {
	for _, c := range calls {
		steps = append(steps, c.Kill)
	}
	return steps
}

func TestUpgradesTakeTheDocumentedSteps(t *testing.T) {
	n, _ := nodeWithTwo(t)
	n.Settings = versioned("v2")
	if got := steps(t, n, func() { mustUpgrade(t, n, UpgradePrograms) }); !slices.Equal(got,
		killsOf(programSteps)) {
		t.Errorf("other programs: %q, want %q", got, killsOf(programSteps))
	}
	makeOld(t, n)
	if got := steps(t, n, func() { mustUpgrade(t, n, UpgradeMaps) }); !slices.Equal(got, killsOf(mapSteps)) {
		t.Errorf("other maps: %q, want %q", got, killsOf(mapSteps))
	}
}

// two are containers in cgroups of their own.
type two struct {
	groups    map[string]group
	sandboxes []Sandbox
}

func nodeWithTwo(t *testing.T) (*Node, two) {
	t.Helper()
	n := loadOther(t, "v1")
	both := two{map[string]group{}, []Sandbox{container(t, "one"), container(t, "two")}}
	for _, sb := range both.sandboxes {
		both.groups[sb.ContainerID] = newGroup(t)
		mustAdd(t, n, sb, in(both.groups[sb.ContainerID]))
	}
	return n, both
}

func (both two) expect(t *testing.T, n *Node, when string) {
	t.Helper()
	expect(t, n, when, accelerated(t, both.groups, both.sandboxes...))
	for _, sb := range both.sandboxes {
		if err := n.Check(t.Context(), sb); err != nil {
			t.Errorf("%s: check %s: %v", when, sb.ContainerID, err)
		}
	}
}

func TestAKilledUpgradeWorksAndTheNextEndsIt(t *testing.T) {
	for _, at := range programSteps {
		t.Run(fmt.Sprint(at.Kill, at.Skip), func(t *testing.T) {
			n, both := nodeWithTwo(t)
			at.Verb, at.Dir, at.Version = "upgrade", n.Dir, "v2"
			at.killed(t)
			both.expect(t, n, "after the kill")
			sb := container(t, "three")
			both.groups["three"] = newGroup(t)
			mustAdd(t, n, sb, in(both.groups["three"]))
			both.sandboxes = append(both.sandboxes, sb)
			both.expect(t, n, "after ADD")
			expectNoUnfinished(t, n)
			n.Settings = versioned("v2")
			mustUpgrade(t, n, UpgradePrograms)
			expectLoaded(t, n, "v2")
			both.expect(t, n, "after the next upgrade")
			expectNoUnfinished(t, n)
		})
	}
}

func TestOldVersionRevertsAKilledUpgrade(t *testing.T) {
	n, both := nodeWithTwo(t)
	call{Verb: "upgrade", Dir: n.Dir, Version: "v2", Kill: "link", Skip: 1}.killed(t)
	mustUpgrade(t, n, UpgradePrograms) // by v1, whose digest is gone
	expectLoaded(t, n, "v1")
	both.expect(t, n, "after going back")
}

// afterReplace are the calls that come first after a killed upgrade from another ABI, in turn for its steps.
// Calls other than an upgrade fail with an error, unless the new state is published already.
var afterReplace = []struct {
	what string
	call func(*testing.T, *Node, *two) error
}{
	{"an ADD", func(t *testing.T, n *Node, both *two) error {
		sb, g := container(t, "three"), newGroup(t)
		_, err := n.Add(t.Context(), sb, in(g))
		if err == nil {
			both.sandboxes, both.groups["three"] = append(both.sandboxes, sb), g
		}
		return err
	}},
	{"a DEL", func(t *testing.T, n *Node, both *two) error {
		sb := both.sandboxes[1]
		err := n.Del(t.Context(), sb.Network, sb.ContainerID, sb.IfName)
		if err == nil {
			both.sandboxes = both.sandboxes[:1]
		}
		return err
	}},
	{"a reap", func(t *testing.T, n *Node, _ *two) error {
		_, err := n.Reap(t.Context())
		return err
	}},
	{"the upgrade again", func(*testing.T, *Node, *two) error { return nil }},
}

func TestKilledUpgradeOfMapsIsCompletedByNextCalls(t *testing.T) {
	for i, at := range mapSteps {
		published := i > slices.Index(killsOf(mapSteps), "publish")
		next := afterReplace[i%len(afterReplace)]
		t.Run(fmt.Sprint(at.Kill, at.Skip, ", ", next.what), func(t *testing.T) {
			n, both := nodeWithTwo(t)
			makeOld(t, n)
			at.Verb, at.Dir, at.Version = "upgrade", n.Dir, "v2"
			at.killed(t)
			n.Settings = versioned("v2")
			err := next.call(t, n, &both)
			if refused := errors.Is(err, datapath.ErrForeignState); err != nil && !refused || refused && published {
				t.Fatalf("%s: %v", next.what, err)
			}
			change := UpgradeMaps
			if published {
				change = UpgradeNone
			}
			mustUpgrade(t, n, change)
			expectLoaded(t, n, "v2")
			both.expect(t, n, "in the end")
			// Nothing flows, so the old state has drained.
			if _, err := n.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			expectNoUnfinished(t, n)
			both.expect(t, n, "after a reap")
		})
	}
}

func TestAKilledRemovalOfDrainedStateIsFinished(t *testing.T) {
	n, both := nodeWithTwo(t)
	makeOld(t, n)
	n.Settings = versioned("v2")
	mustUpgrade(t, n, UpgradeMaps)
	call{Verb: "reap", Dir: n.Dir, Kill: "reap drained"}.killed(t)
	sb := container(t, "three")
	both.groups["three"] = newGroup(t)
	mustAdd(t, n, sb, in(both.groups["three"]))
	both.sandboxes = append(both.sandboxes, sb)
	expectNoUnfinished(t, n)
	both.expect(t, n, "after ADD")
}

func TestUpgradesKilledAtRandomMoments(t *testing.T) {
	random := fixture.Rand(t)
	const rounds = 12
	n, both := nodeWithTwo(t)
	start := time.Now()
	out, err := call{Verb: "upgrade", Dir: n.Dir, Version: "round"}.command(t).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	whole := time.Since(start)
	for i := range rounds {
		change := UpgradePrograms
		markOther(t, n)
		if i%2 == 0 {
			makeOld(t, n)
			change = UpgradeMaps
		}
		cmd := call{Verb: "upgrade", Dir: n.Dir, Version: fmt.Sprint("round ", i)}.command(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fixture.Elapse(time.Duration(random.Int64N(int64(whole))),
			"a random moment of the call, at which it is killed")
		cmd.Process.Kill()
		cmd.Wait()
		n.Settings = versioned(fmt.Sprint("round ", i))
		if _, err := n.Upgrade(t.Context()); err != nil {
			t.Fatalf("round %d (%s): %v", i, change, err)
		}
		expectLoaded(t, n, n.Settings.Version)
		if _, err := n.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
		both.expect(t, n, fmt.Sprint("round ", i))
		expectNoUnfinished(t, n)
	}
}
