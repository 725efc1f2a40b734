// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// complete returns a node whose marks are complete, as after its first DEL.
func complete(t *testing.T) *Node {
	t.Helper()
	n := newNode(t)
	sb := container(t, "first")
	mustAdd(t, n, sb, in(newGroup(t)))
	mustDel(t, n, sb)
	if ok, err := opened(t, n).CommonComplete(); !ok || err != nil {
		t.Fatalf("the marks are not complete after a DEL: %v", err)
	}
	expectMarks(t, n)
	return n
}

func expectMarks(t *testing.T, n *Node, want ...datapath.Common) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(n.Dir, stateName(datapath.ABI), "common"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var got []datapath.Common
	for _, e := range entries {
		if e.Name() != "complete" {
			got = append(got, datapath.Common(e.Name()))
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("marks %q, want %q", got, want)
	}
}

// second returns another attachment of the container, in another network.
func second(sb Sandbox) Sandbox {
	sb.Network, sb.IfName = "another", "net1"
	return sb
}

func TestDelKeepsNetNSAndCgroupOfOtherAttachments(t *testing.T) {
	for name, other := range map[string]func(t *testing.T, sb Sandbox) Sandbox{
		"the network namespace": func(_ *testing.T, sb Sandbox) Sandbox { return second(sb) },
		"the cgroup":            func(t *testing.T, _ Sandbox) Sandbox { return container(t, "two") },
	} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", the first goes first: ", first), func(t *testing.T) {
				n, g, one := complete(t), newGroup(t), container(t, "one")
				two := other(t, one)
				mustAdd(t, n, one, in(g))
				mustAdd(t, n, one, in(g)) // again: an attachment shares nothing with itself
				expectMarks(t, n)
				mustAdd(t, n, two, in(g))
				goes, stays := one, two
				if !first {
					goes, stays = two, one
				}
				mustDel(t, n, goes)
				expectOnly(t, n, "after the DEL of one", g, stays)
				mustDel(t, n, stays)
				expect(t, n, "after both", state{})
				expectMarks(t, n)
			})
		}
	}
}

// Attachments of a version that set no marks are all read once.
func TestDelKeepsCgroupOfOtherAttachmentsInStateWithoutMarks(t *testing.T) {
	n, g, one, two := newNode(t), newGroup(t), container(t, "one"), container(t, "two")
	mustAdd(t, n, one, in(g))
	mustAdd(t, n, two, in(g))
	if err := os.RemoveAll(filepath.Join(n.Dir, stateName(datapath.ABI), "common")); err != nil {
		t.Fatal(err)
	}
	third := container(t, "three")
	mustAdd(t, n, third, in(newGroup(t)))
	mustDel(t, n, third)
	expectOnly(t, n, "after the DEL of another", g, one, two)
	expectMarks(t, n, datapath.CommonCgroup(g.id))
	mustDel(t, n, two)
	expectOnly(t, n, "after the DEL of one", g, one)
}

func TestAKilledCallLeavesNoRecordWithoutItsMark(t *testing.T) {
	for _, step := range []string{"record", "link", "endpoint", "of another, record", "of another, link"} {
		t.Run("the first ADD at "+step, func(t *testing.T) {
			step, another := strings.CutPrefix(step, "of another, ")
			n, g, one := complete(t), newGroup(t), container(t, "one")
			two := second(one)
			if another {
				two = container(t, "two")
			}
			call{Verb: "add", Dir: n.Dir, Root: n.Root, Sandbox: one, Want: in(g), Kill: step}.killed(t)
			mustAdd(t, n, two, in(g))
			mustDel(t, n, one) // by the runtime, because its ADD has failed
			expectOnly(t, n, "after the DEL of the first", g, two)
			mustAdd(t, n, one, in(g))
			mustDel(t, n, two)
			expectOnly(t, n, "after the DEL of the second", g, one)
			mustDel(t, n, one)
			expect(t, n, "after both", state{})
		})
	}
	for _, step := range []string{"record", "release endpoint", "release link"} {
		t.Run("the last DEL at "+step, func(t *testing.T) {
			n, g, one := complete(t), newGroup(t), container(t, "one")
			mustAdd(t, n, one, in(g))
			mustAdd(t, n, second(one), in(g))
			mustDel(t, n, second(one))
			call{Verb: "del", Dir: n.Dir, Root: n.Root, Sandbox: one, Kill: step}.killed(t)
			mustAdd(t, n, second(one), in(g))
			mustDel(t, n, one)
			expectOnly(t, n, "after the DEL of the first", g, second(one))
			mustDel(t, n, second(one))
			expect(t, n, "after both", state{})
			expectMarks(t, n)
		})
	}
}
