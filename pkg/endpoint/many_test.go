// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"golang.org/x/sys/unix"
)

// fill adds endpoints with these numbers to a node, each with its attachment and the pin of a link.
func fill(t *testing.T, n *Node, from, to int) {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	alive := container(t, "alive")
	attachment, err := newAttachment(alive)
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < to; i++ {
		attachment.ContainerID, attachment.NetNSCookie = fmt.Sprint("other-", i), 1<<40+uint64(i)
		key := datapath.NewAttachmentKey(attachment.Network, attachment.ContainerID, attachment.IfName)
		if err := d.PutAttachment(key, attachment); err != nil {
			t.Fatal(err)
		}
		if err := d.SetEndpoint(attachment.NetNSCookie, datapath.Policy{Accelerate: true}); err != nil {
			t.Fatal(err)
		}
		pin := datapath.LinkKey{CgroupID: 1<<40 + uint64(i)}.String()
		if err := os.Mkdir(filepath.Join(n.Dir, stateName(datapath.ABI), "links", pin), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// costs are the allocations of the cheapest calls of some containers. Each attachment or link that is read
// takes some, and unlike time they do not depend on other processes.
type costs struct{ add, check, del uint64 }

func costsOf(t *testing.T, n *Node, g group, name string) costs {
	t.Helper()
	least := costs{math.MaxUint64, math.MaxUint64, math.MaxUint64}
	for i := range 8 {
		sb := container(t, fmt.Sprint(name, i))
		least.add = min(least.add, cost(func() { mustAdd(t, n, sb, in(g)) }))
		least.check = min(least.check, cost(func() {
			if err := n.Check(t.Context(), sb); err != nil {
				t.Error(err)
			}
		}))
		least.del = min(least.del, cost(func() { mustDel(t, n, sb) }))
	}
	t.Logf("%s: %+v allocations", name, least)
	return least
}

func cost(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

func TestCostOfACallDoesNotGrowWithTheEndpoints(t *testing.T) {
	// Enough of the few to use up the time that an ADD spends on other containers.
	const some, many = 100, 5000
	n, g := newNode(t), newGroup(t)
	mustAdd(t, n, container(t, "first"), in(newGroup(t)))
	fill(t, n, 0, some)
	few := costsOf(t, n, g, "few")
	fill(t, n, some, many)
	most := costsOf(t, n, g, "many")
	for _, c := range []struct {
		verb      string
		few, most uint64
	}{{"an ADD", few.add, most.add}, {"a CHECK", few.check, most.check}, {"a DEL", few.del, most.del}} {
		if c.most > c.few+c.few/5 {
			t.Errorf("%s makes %d allocations beside %d endpoints, and %d beside %d", c.verb, c.few, some, c.most,
				many)
		}
	}
}

// The next ADD finds what a call has left without an attachment, although it does not read all links.
func TestAddRemovesLeftoversOfEarlierCalls(t *testing.T) {
	t.Run("a replacement that was killed", func(t *testing.T) {
		n, g, sb, other := newNode(t), newGroup(t), container(t, "one"), container(t, "other")
		mustAdd(t, n, sb, in(newGroup(t)))
		sb.NetNSPath = newNetNS(t)
		call{Verb: "add", Dir: n.Dir, Sandbox: sb, Want: in(g), Kill: "release endpoint"}.killed(t)
		mustAdd(t, n, other, in(g))
		expectOnly(t, n, "after ADD of another", g, sb, other)
	})
	t.Run("an undoing that failed", func(t *testing.T) {
		n, g, sb, other := newNode(t), newGroup(t), container(t, "one"), container(t, "other")
		mustAdd(t, n, container(t, "loads"), in(g))
		n.Step = func(step string) error {
			if step == "endpoint" || step == "release link" {
				return errors.New("no")
			}
			return nil
		}
		if _, err := n.Add(t.Context(), sb, in(newGroup(t))); err == nil {
			t.Fatal("the ADD succeeds")
		}
		n.Step = nil
		mustAdd(t, n, other, in(g))
		if links := stateOf(t, n).Links; len(links) != 1 {
			t.Errorf("links %v are there, want that of one cgroup", links)
		}
	})
}

func TestAddReapsIfLeftoversFillTheAttachments(t *testing.T) {
	n, g := newNode(t), newGroup(t)
	mustAdd(t, n, container(t, "loads"), in(g))
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	gone := container(t, "gone")
	attachment, err := newAttachment(gone)
	if err != nil {
		t.Fatal(err)
	}
	removeNetNS(t, gone.NetNSPath)
	for i := 0; ; i++ {
		attachment.ContainerID = fmt.Sprint("gone-", i)
		err := d.PutAttachment(datapath.NewAttachmentKey("net", attachment.ContainerID, "eth0"), attachment)
		if errors.Is(err, unix.E2BIG) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out := mustAdd(t, n, container(t, "new"), in(g)); len(out.Reaped) == 0 {
		t.Error("nothing was reaped")
	}
}
