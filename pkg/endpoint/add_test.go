// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestAddThenDelLeavesNothing(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	out := mustAdd(t, n, sb, in(g))
	if !out.Loaded || out.Disabled || out.NetNSCookie != cookieOf(t, sb.NetNSPath) ||
		out.Cgroup.ID != g.id || out.Cgroup.Source != cgroup.SourceConfiguration {
		t.Errorf("outcome %+v does not have what was made", out)
	}
	expectOnly(t, n, "after ADD", g, sb)
	mustDel(t, n, sb)
	expect(t, n, "after DEL", state{})
	mustDel(t, n, sb)
	expect(t, n, "after a second DEL", state{})
}

func TestAddTwiceIsAddOnce(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	if out := mustAdd(t, n, sb, in(g)); out.Loaded {
		t.Error("the second ADD says that it loaded")
	}
	expectOnly(t, n, "after two ADDs", g, sb)
	mustDel(t, n, sb)
	expect(t, n, "after one DEL", state{})
}

func TestAddOfTheSameKeyReplaces(t *testing.T) {
	t.Run("its network namespace", func(t *testing.T) {
		n, g, sb := newNode(t), newGroup(t), container(t, "one")
		mustAdd(t, n, sb, in(g))
		sb.NetNSPath = newNetNS(t)
		mustAdd(t, n, sb, in(g))
		expectOnly(t, n, "after ADD with another netns", g, sb)
	})
	t.Run("its cgroup", func(t *testing.T) {
		n, g, other, sb := newNode(t), newGroup(t), newGroup(t), container(t, "one")
		mustAdd(t, n, sb, in(g))
		mustAdd(t, n, sb, in(other))
		expectOnly(t, n, "after ADD with another cgroup", other, sb)
	})
	t.Run("but not what others share with it", func(t *testing.T) {
		n, g, other, sb, neighbour := newNode(t), newGroup(t), newGroup(t), container(t, "one"), container(t, "two")
		mustAdd(t, n, sb, in(g))
		mustAdd(t, n, neighbour, in(g))
		mustAdd(t, n, sb, in(other))
		expect(t, n, "after ADD with another cgroup",
			accelerated(t, map[string]group{"one": other, "two": g}, sb, neighbour))
	})
}

// The pod cgroup outlives its sandboxes, and the DEL of the old one may come after the ADD of the new one.
func TestContainersOfOneCgroupShareItsLink(t *testing.T) {
	for name, order := range map[string][]string{
		"first in, first out": {"+old", "+new", "-old", "-new"},
		"first in, last out":  {"+old", "+new", "-new", "-old"},
		"one after the other": {"+old", "-old", "+new", "-new"},
		"DEL repeated late":   {"+old", "-old", "+new", "-old", "-new"},
		"ADD repeated":        {"+old", "+new", "+old", "-old", "-new"},
	} {
		t.Run(name, func(t *testing.T) {
			n, g := newNode(t), newGroup(t)
			all := map[string]Sandbox{"old": container(t, "old"), "new": container(t, "new")}
			var there []Sandbox
			for _, op := range order {
				sb := all[op[1:]]
				there = slices.DeleteFunc(there, func(o Sandbox) bool { return o == sb })
				if op[0] == '+' {
					mustAdd(t, n, sb, in(g))
					there = append(there, sb)
				} else {
					mustDel(t, n, sb)
				}
				expectOnly(t, n, "after "+op, g, there...)
			}
		})
	}
}

// Multus adds several interfaces to one network namespace.
func TestAttachmentsOfOneNetNSShareItsEndpoint(t *testing.T) {
	n, g, first := newNode(t), newGroup(t), container(t, "pod")
	second, third := first, first
	second.IfName = "net1"
	third.Network, third.IfName = "other", "net2"
	for _, sb := range []Sandbox{first, second, third} {
		mustAdd(t, n, sb, in(g))
	}
	expectOnly(t, n, "after three ADDs", g, first, second, third)
	mustDel(t, n, second)
	expectOnly(t, n, "after one DEL", g, first, third)
	mustDel(t, n, first)
	expectOnly(t, n, "after two DELs", g, third)
	mustDel(t, n, third)
	expect(t, n, "after three DELs", state{})
}

func TestWithoutACgroupTheRootIsAttached(t *testing.T) {
	n, sb, other := newNode(t), container(t, "one"), container(t, "two")
	root := openGroup(t, cgroupMount(t).Path)
	out := mustAdd(t, n, sb, Want{})
	if !out.Cgroup.Root || len(out.Cgroup.Notes) == 0 {
		t.Errorf("outcome %+v does not say that and why it is the root", out)
	}
	mustAdd(t, n, other, Want{})
	expectOnly(t, n, "after two ADDs", root, sb, other)
	mustDel(t, n, sb)
	expectOnly(t, n, "after one DEL", root, other)
	mustDel(t, n, other)
	expect(t, n, "after two DELs", state{})
}

func TestNoContainersNetNSIsRefusedBeforeAnythingIsDone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"the host's":                "/proc/self/ns/net",
		"missing":                   file + ".missing",
		"a file":                    file,
		"another kind of namespace": "/proc/self/ns/uts",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.Step = func(step string) error { t.Errorf("did %q", step); return nil }
			sb := Sandbox{Network: "net", ContainerID: "one", IfName: "eth0", NetNSPath: path}
			if _, err := n.Add(t.Context(), sb, Want{}); !errors.Is(err, ErrNetNS) {
				t.Errorf("add: %v, want ErrNetNS", err)
			}
			if err := n.OptOut(t.Context(), sb, "no"); !errors.Is(err, ErrNetNS) {
				t.Errorf("opt out: %v, want ErrNetNS", err)
			}
		})
	}
}

func TestDelOfUnknownContainersIsNoError(t *testing.T) {
	n := newNode(t)
	stranger := Sandbox{Network: "net", ContainerID: "stranger", IfName: "eth0"}
	mustDel(t, n, stranger)
	if _, err := os.Stat(n.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("DEL on a node that is not loaded made its directory: %v", err)
	}
	g, sb := newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	n.Step = func(step string) error { t.Errorf("did %q", step); return nil }
	mustDel(t, n, stranger)
	expectOnly(t, n, "after a stranger's DEL", g, sb)
}

func TestLastAddSetsTheLiveSettings(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	want := datapath.Live{
		MaxBacklogBytes: 8192, MaxBacklogMessages: 8, NATRefreshSeconds: 1, Coexist: datapath.CoexistShare,
		Helpers: datapath.HelpersIgnore,
	}
	n.Settings.MaxBacklogBytes, n.Settings.MaxBacklogMessages, n.Settings.MaxSockets = 8192, 8, 2048
	n.Settings.NATRefreshSeconds, n.Settings.Coexist, n.Settings.Helpers = 1, want.Coexist, want.Helpers
	mustAdd(t, n, sb, in(g))
	cfg := configOf(t, n)
	if cfg.Live() != want || cfg.MaxSockets != defaults.MaxSockets {
		t.Errorf("in force is %+v, want the new settings and the old size", cfg.Settings)
	}
}

func TestGuardsThatDifferFromWhatIsLoadedAreLogged(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	n.Settings.WithoutGuards = []string{datapath.GuardSplice}
	mustAdd(t, n, sb, in(g))
	for _, tt := range []struct {
		without []string
		want    []string // guards that differ
	}{
		{[]string{datapath.GuardSplice}, nil},
		{nil, []string{datapath.GuardSplice}},
		{[]string{datapath.GuardOptions}, []string{datapath.GuardSplice, datapath.GuardOptions}},
	} {
		var text strings.Builder
		n.Log = slog.New(slog.NewTextHandler(&text, nil))
		n.Settings.WithoutGuards = tt.without
		mustAdd(t, n, sb, in(g))
		var got []string
		for _, name := range datapath.Guards {
			if strings.Contains(text.String(), "guard="+name+" ") {
				got = append(got, name)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("without %v: %s\n%s", tt.without, diff, text.String())
		}
	}
}

func TestAddReportsThatTheNodeIsDisabled(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.SetDisabled(true); err != nil {
		t.Fatal(err)
	}
	if out := mustAdd(t, n, sb, in(g)); !out.Disabled {
		t.Error("the outcome does not say that the kill switch is on")
	}
}

func TestLongNamesAreKeptApart(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	one, two := container(t, strings.Repeat("c", 200)+"1"), container(t, strings.Repeat("c", 200)+"2")
	one.Network, two.Network = strings.Repeat("n", 200)+"1", strings.Repeat("n", 200)+"2"
	mustAdd(t, n, one, in(g))
	mustAdd(t, n, two, in(g))
	if _, err := n.GC(t.Context(), one.Network, &[]ValidAttachment{}); err != nil {
		t.Fatal(err)
	}
	if err := n.Check(t.Context(), one); !errors.Is(err, ErrNotAdded) {
		t.Errorf("check of what GC removed: %v, want ErrNoRecord", err)
	}
	if err := n.Check(t.Context(), two); err != nil {
		t.Errorf("check of the other network's: %v", err)
	}
}

func TestCallsLeakNoDescriptors(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	round := func() {
		mustAdd(t, n, sb, in(g))
		if err := n.Check(t.Context(), sb); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Attachments(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustDel(t, n, sb)
		if _, err := n.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	round() // opens what the runtime and the libraries keep open
	before := descriptors(t)
	for range 10 {
		round()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
