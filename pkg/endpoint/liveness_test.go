// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// process starts a process in the network namespace at path, and returns a function that ends it.
func process(t *testing.T, path string) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := netns.EachOf([]string{path}, cmd.Start); err != nil {
		t.Fatal(err)
	}
	end = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

// join moves a process to the cgroup.
func (g group) join(t *testing.T, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.path, "cgroup.procs"), fmt.Append(nil, pid), 0); err != nil {
		t.Fatal(err)
	}
}

func reaped(t *testing.T, n *Node) []Removed {
	t.Helper()
	removed, err := n.Reap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

// The process of the first container ends, while the second keeps the network namespace alive.
func TestANetNSIsNotDeadWhileAnotherContainerSharesIt(t *testing.T) {
	for _, what := range []string{"process", "cgroup"} {
		t.Run("its "+what+" ends", func(t *testing.T) {
			n, g, sb := newNode(t), newGroup(t), container(t, "one")
			keeper := sb.NetNSPath
			pid, end := process(t, keeper)
			_, endOther := process(t, keeper)
			sb.NetNSPath = netns.ProcessPath(pid)
			cookie := cookieOf(t, sb.NetNSPath)
			mustAdd(t, n, sb, in(g))
			before := stateOf(t, n)
			end()
			if what == "cgroup" {
				removeGroup(t, g.path)
			}
			if removed := reaped(t, n); len(removed) != 0 {
				t.Errorf("reap removed %v, want nothing", removed)
			}
			expect(t, n, "while the other lives", before)
			endOther()
			if removed := reaped(t, n); len(removed) != 1 {
				t.Errorf("reap removed %v of netns %d, want the attachment", removed, cookie)
			}
			expect(t, n, "after both", state{})
		})
	}
}

// Inode numbers of namespaces are reused.
func TestANetNSIsDeadThoughItsNumberIsUsedAgain(t *testing.T) {
	n, g, sb := newNode(t), newGroup(t), container(t, "one")
	other := newNetNS(t)
	process(t, other)
	dev, inode, err := netns.Stat(other)
	if err != nil {
		t.Fatal(err)
	}
	mustAdd(t, n, sb, in(g))
	edit(t, n, sb, func(a *datapath.Attachment) { a.NetNSDev, a.NetNSInode = dev, inode })
	removeNetNS(t, sb.NetNSPath)
	if removed := reaped(t, n); len(removed) != 1 {
		t.Errorf("reap removed %v, want the attachment", removed)
	}
}

// If the path of the network namespace says nothing, the container's cgroup is checked.
func TestDeclinedContainerOfAnotherMountNamespaceIsReapedByItsCgroup(t *testing.T) {
	for what, attachment := range map[string]func(*Node, Sandbox) error{
		"declined": func(n *Node, sb Sandbox) error {
			return n.Decline(t.Context(), sb, errors.New("for the test"))
		},
		"opted out": func(n *Node, sb Sandbox) error { return n.OptOut(t.Context(), sb, "for the test") },
	} {
		t.Run(what, func(t *testing.T) {
			n, g, sb := newNode(t), newGroup(t), container(t, "one")
			load(t, n)
			pid, end := process(t, sb.NetNSPath)
			g.join(t, pid)
			sb.NetNSPath = netns.ProcessPath(pid)
			if err := attachment(n, sb); err != nil {
				t.Fatal(err)
			}
			edit(t, n, sb, func(a *datapath.Attachment) { a.MountNS++ })
			before := stateOf(t, n)
			if removed := reaped(t, n); len(removed) != 0 {
				t.Errorf("reap removed %v, want nothing", removed)
			}
			expect(t, n, "while it lives", before)
			end()
			removeGroup(t, g.path)
			if removed := reaped(t, n); len(removed) != 1 {
				t.Errorf("reap removed %v, want the attachment", removed)
			}
			expect(t, n, "after reap", state{})
		})
	}
}
