// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// after are the calls that may follow a kill, each of which must repair everything.
var after = map[string]func(*testing.T, *Node, Sandbox, group){
	"the same ADD again": func(t *testing.T, n *Node, sb Sandbox, g group) {
		mustAdd(t, n, sb, in(g))
		expectOnly(t, n, "after ADD", g, sb)
		mustDel(t, n, sb)
	},
	"its DEL": func(t *testing.T, n *Node, sb Sandbox, _ group) {
		mustDel(t, n, sb)
	},
	"its DEL without its netns": func(t *testing.T, n *Node, sb Sandbox, _ group) {
		removeNetNS(t, sb.NetNSPath)
		mustDel(t, n, sb)
	},
	"a GC that does not know it": func(t *testing.T, n *Node, sb Sandbox, _ group) {
		if _, err := n.GC(t.Context(), sb.Network, &[]ValidAttachment{}); err != nil {
			t.Fatal(err)
		}
	},
	"a reap once it is dead": func(t *testing.T, n *Node, sb Sandbox, _ group) {
		removeNetNS(t, sb.NetNSPath)
		if _, err := n.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
	},
	"an ADD of another once it is dead": func(t *testing.T, n *Node, sb Sandbox, _ group) {
		removeNetNS(t, sb.NetNSPath)
		other, g := container(t, "other"), newGroup(t)
		mustAdd(t, n, other, in(g))
		expectOnly(t, n, "after ADD of another", g, other)
		mustDel(t, n, other)
	},
}

func TestKilledAddIsRepairedByNextCall(t *testing.T) {
	for _, step := range []string{"directory", "load", "helpers", "record", "link", "endpoint"} {
		for what, repair := range after {
			t.Run(step+", "+what, func(t *testing.T) {
				n, g, sb := newNode(t), newGroup(t), container(t, "one")
				call{Verb: "add", Dir: n.Dir, Root: n.Root, Sandbox: sb, Want: in(g), Kill: step}.killed(t)
				repair(t, n, sb, g)
				expect(t, n, "in the end", state{})
			})
		}
	}
}

func TestKilledDelIsRepairedByNextCall(t *testing.T) {
	for _, step := range []string{"release endpoint", "release link", "record"} {
		for what, repair := range after {
			t.Run(step+", "+what, func(t *testing.T) {
				n, g, sb := newNode(t), newGroup(t), container(t, "one")
				mustAdd(t, n, sb, in(g))
				call{Verb: "del", Dir: n.Dir, Sandbox: sb, Kill: step}.killed(t)
				repair(t, n, sb, g)
				expect(t, n, "in the end", state{})
			})
		}
	}
}

// Once the new attachment is written, no attachment names the older netns and cgroup of the key.
func TestKilledReplacementLeavesNoOrphans(t *testing.T) {
	for _, step := range []string{"record", "link", "endpoint", "release endpoint", "release link"} {
		for _, what := range []string{"the same ADD again", "a reap"} {
			t.Run(step+", "+what, func(t *testing.T) {
				n, g, sb := newNode(t), newGroup(t), container(t, "one")
				mustAdd(t, n, sb, in(newGroup(t)))
				sb.NetNSPath = newNetNS(t)
				call{Verb: "add", Dir: n.Dir, Sandbox: sb, Want: in(g), Kill: step}.killed(t)
				if what == "a reap" {
					if _, err := n.Reap(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				mustAdd(t, n, sb, in(g))
				if _, err := n.Reap(t.Context()); err != nil {
					t.Fatal(err)
				}
				expectOnly(t, n, "after ADD", g, sb)
			})
		}
	}
}

func TestAKilledReapIsFinishedByTheNext(t *testing.T) {
	for _, step := range []string{"release endpoint", "release link", "record", "reap link", "reap endpoint"} {
		t.Run(step, func(t *testing.T) {
			n, g, sb := newNode(t), newGroup(t), container(t, "one")
			mustAdd(t, n, sb, in(g))
			makeOrphans(t, n)
			removeNetNS(t, sb.NetNSPath)
			call{Verb: "reap", Dir: n.Dir, Kill: step}.killed(t)
			if _, err := n.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			expect(t, n, "after the next reap", state{})
		})
	}
}

// makeOrphans makes a link and an endpoint without an attachment.
func makeOrphans(t *testing.T, n *Node) {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	g := newGroup(t)
	dir, err := os.Open(g.path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := d.Attach(dir, datapath.LinkKey{CgroupID: g.id}); err != nil {
		t.Fatal(err)
	}
	if err := d.SetEndpoint(cookieOf(t, newNetNS(t)), datapath.Policy{}); err != nil {
		t.Fatal(err)
	}
}

// Kills between steps as well, above all while the programs are being loaded.
func TestKillsAtRandomMoments(t *testing.T) {
	const rounds = 40
	random := fixture.Rand(t)
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	start := time.Now()
	if out, err := (call{Verb: "add", Dir: n.Dir, Sandbox: sb,
		Want: in(g)}).command(t).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	whole := time.Since(start)
	for i := range rounds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if i%2 == 0 {
				if _, err := n.Unload(t.Context(), false); err != nil {
					t.Fatal(err)
				}
			}
			cmd := call{Verb: "add", Dir: n.Dir, Sandbox: sb, Want: in(g)}.command(t)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			fixture.Elapse(time.Duration(random.Int64N(int64(whole))),
				"a random moment of the call, at which it is killed")
			cmd.Process.Kill()
			cmd.Wait()
			mustAdd(t, n, sb, in(g))
			expectOnly(t, n, "after ADD", g, sb)
			expectNoUnfinished(t, n)
			mustDel(t, n, sb)
			expect(t, n, "after DEL", state{})
		})
	}
}

func expectNoUnfinished(t *testing.T, n *Node) {
	t.Helper()
	entries, err := os.ReadDir(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{stateName(datapath.ABI)}) {
		t.Fatalf("the state directory has %s, want v1", strings.Join(names, ", "))
	}
}
