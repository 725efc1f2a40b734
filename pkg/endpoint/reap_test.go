// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"golang.org/x/sys/unix"
)

func names(removed []Removed) []string {
	var out []string
	for _, r := range removed {
		out = append(out, r.Kind+" "+r.Name)
	}
	slices.Sort(out)
	return out
}

func TestGCRemovesWhatTheRuntimeDoesNotKnow(t *testing.T) {
	setUp := func(t *testing.T) (*Node, group, Sandbox, Sandbox, Sandbox) {
		n, g := newNode(t), newGroup(t)
		kept, lost, foreign := container(t, "kept"), container(t, "lost"), container(t, "foreign")
		foreign.Network = "other"
		for _, sb := range []Sandbox{kept, lost, foreign} {
			mustAdd(t, n, sb, in(g))
		}
		return n, g, kept, lost, foreign
	}
	t.Run("with its key: all that is not listed, of this network only", func(t *testing.T) {
		n, g, kept, _, foreign := setUp(t)
		removed, err := n.GC(t.Context(), "net", &[]ValidAttachment{{kept.ContainerID, kept.IfName},
			{"unheard-of", "eth0"}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"attachment net/lost/eth0"}, names(removed)); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}
		expectOnly(t, n, "after GC", g, kept, foreign)
	})
	t.Run("with an empty key: all of this network", func(t *testing.T) {
		n, g, _, _, foreign := setUp(t)
		if _, err := n.GC(t.Context(), "net", &[]ValidAttachment{}); err != nil {
			t.Fatal(err)
		}
		expectOnly(t, n, "after GC", g, foreign)
	})
	t.Run("another interface of a listed container is not listed", func(t *testing.T) {
		n, g, kept, lost, foreign := setUp(t)
		valid := []ValidAttachment{{kept.ContainerID, "eth0"}, {lost.ContainerID, "eth1"}}
		if _, err := n.GC(t.Context(), "net", &valid); err != nil {
			t.Fatal(err)
		}
		expectOnly(t, n, "after GC", g, kept, foreign)
	})
	t.Run("without its key: only what is dead, of this network", func(t *testing.T) {
		n, g, kept, lost, foreign := setUp(t)
		dead := container(t, "dead")
		dead.Network = "other"
		mustAdd(t, n, dead, in(g))
		removeNetNS(t, lost.NetNSPath)
		gone := cookieOf(t, dead.NetNSPath)
		removeNetNS(t, dead.NetNSPath)
		if _, err := n.GC(t.Context(), "net", nil); err != nil {
			t.Fatal(err)
		}
		want := accelerated(t, map[string]group{"kept": g, "foreign": g}, kept, foreign)
		want.Records = append(want.Records, "dead/eth0")
		want.Endpoints = append(want.Endpoints, fmt.Sprint(gone))
		want.Totals++
		slices.Sort(want.Records)
		slices.Sort(want.Endpoints)
		expect(t, n, "after GC", want)
	})
	t.Run("without a network's name: nothing", func(t *testing.T) {
		n, g, kept, lost, foreign := setUp(t)
		for _, valid := range []*[]ValidAttachment{nil, {}} {
			if removed, err := n.GC(t.Context(), "", valid); len(removed) != 0 || !errors.Is(err, ErrNoNetwork) {
				t.Errorf("got %v, %v; want ErrNoNetwork", removed, err)
			}
		}
		expectOnly(t, n, "after GC", g, kept, lost, foreign)
	})
	t.Run("on a node that is not loaded", func(t *testing.T) {
		if removed, err := newNode(t).GC(t.Context(), "net", &[]ValidAttachment{}); len(removed) != 0 ||
			err != nil {
			t.Errorf("got %v, %v; want nothing", removed, err)
		}
	})
}

func TestReapRemovesOnlyWhatIsProvablyDead(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(*testing.T, *Node, Sandbox, group)
		dead   bool
	}{
		{"nothing has happened", func(*testing.T, *Node, Sandbox, group) {}, false},
		{"its cgroup is gone", func(t *testing.T, _ *Node, _ Sandbox, g group) { removeGroup(t, g.path) }, true},
		{"its cgroup was created again", func(t *testing.T, _ *Node, _ Sandbox, g group) {
			removeGroup(t, g.path)
			if err := os.Mkdir(g.path, 0o755); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"its netns file is gone", func(t *testing.T, _ *Node, sb Sandbox, _ group) {
			removeNetNS(t, sb.NetNSPath)
		}, true},
		{"its netns is unmounted", func(_ *testing.T, _ *Node, sb Sandbox, _ group) {
			netnstest.Unmount(sb.NetNSPath)
		}, true},
		{"another netns stands there", func(t *testing.T, _ *Node, sb Sandbox, _ group) {
			other := newNetNS(t) // before the first one goes, or it could get its inode number
			netnstest.Unmount(sb.NetNSPath)
			if err := unix.Mount(other, sb.NetNSPath, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"cgroup2 cannot be seen", func(_ *testing.T, n *Node, _ Sandbox, _ group) {
			n.Mount = func() (cgroup.Mount, error) { return cgroup.Mount{}, cgroup.ErrNoCgroup2 }
		}, false},
		{"cgroup2 cannot be seen and its cgroup is gone", func(t *testing.T, n *Node, _ Sandbox, g group) {
			n.Mount = func() (cgroup.Mount, error) { return cgroup.Mount{}, cgroup.ErrNoCgroup2 }
			removeGroup(t, g.path)
		}, false},
		{"its path was recorded in another mount namespace and is missing here",
			func(t *testing.T, n *Node, sb Sandbox, _ group) {
				edit(t, n, sb, func(a *datapath.Attachment) { a.MountNS++ })
				removeNetNS(t, sb.NetNSPath)
			}, false},
		{"its path did not fit its field", func(t *testing.T, n *Node, sb Sandbox, _ group) {
			edit(t, n, sb, func(a *datapath.Attachment) { a.NetNSPath = "/" + string(make([]byte, 300)) })
			removeNetNS(t, sb.NetNSPath)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, g, sb := newNode(t), newGroup(t), container(t, "one")
			neighbour, home := container(t, "two"), newGroup(t)
			mustAdd(t, n, sb, in(g))
			mustAdd(t, n, neighbour, in(home))
			before := stateOf(t, n)
			c.happen(t, n, sb, g)
			removed, err := n.Reap(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.dead {
				expectOnly(t, n, "after reap", home, neighbour)
			} else {
				expect(t, n, "after reap", before)
			}
			if c.dead != (len(removed) > 0) {
				t.Errorf("reap says that it removed %v", removed)
			}
		})
	}
}

// edit changes an attachment without the node's calls.
func edit(t *testing.T, n *Node, sb Sandbox, change func(*datapath.Attachment)) {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	a, ok, err := d.Attachment(sb.key())
	if err != nil || !ok {
		t.Fatalf("read record: %v, %v", ok, err)
	}
	change(&a)
	if err := d.PutAttachment(sb.key(), a); err != nil {
		t.Fatal(err)
	}
}

func TestReapSparesTheRootLink(t *testing.T) {
	n, sb := newNode(t), container(t, "one")
	mustAdd(t, n, sb, Want{})
	root := openGroup(t, cgroupMount(t).Path)
	if removed, err := n.Reap(t.Context()); len(removed) != 0 || err != nil {
		t.Errorf("reap removed %v, %v", removed, err)
	}
	expectOnly(t, n, "after reap", root, sb)
}

func TestReapRemovesOrphans(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	makeOrphans(t, n)
	removed, err := n.Reap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(removed) != 2 {
		t.Errorf("reap removed %v, want a link and an endpoint", removed)
	}
	expectOnly(t, n, "after reap", g, sb)
}

func TestAddReapsDeadSandboxes(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	dead := []Sandbox{container(t, "a"), container(t, "b"), container(t, "c")}
	for _, other := range dead {
		mustAdd(t, n, other, in(newGroup(t)))
	}
	for _, other := range dead {
		removeNetNS(t, other.NetNSPath)
	}
	// Several ADDs together, because each is bounded by time.
	const most = 100
	mustAdd(t, n, sb, in(g))
	for i := 0; len(stateOf(t, n).Records) != 1; i++ {
		if i == most {
			t.Fatalf("%d ADDs have not removed three dead sandboxes", most)
		}
		mustAdd(t, n, sb, in(g))
	}
	expectOnly(t, n, "after some ADDs", g, sb)
}

func TestReapGoesOnAfterErrors(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	one, two := container(t, "a"), container(t, "b")
	mustAdd(t, n, one, in(g))
	mustAdd(t, n, two, in(g))
	removeNetNS(t, one.NetNSPath)
	removeNetNS(t, two.NetNSPath)
	abortAt(n, 0)
	removed, err := n.Reap(t.Context())
	if err == nil || len(removed) != 1 {
		t.Errorf("got %v, %v; want one removed and one error", removed, err)
	}
	n.Step = nil
	if removed, err := n.Reap(t.Context()); err != nil || len(removed) != 1 {
		t.Errorf("got %v, %v; want the other removed", removed, err)
	}
	expect(t, n, "in the end", state{})
}
