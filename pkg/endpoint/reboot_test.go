// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// reboot does to a node what a reboot does: its bpffs is empty, and the containers are gone.
func reboot(t *testing.T, n *Node, g group, sb Sandbox) {
	t.Helper()
	mount := filepath.Dir(n.Dir)
	unmount(t, mount)
	if err := unix.Mount("bpf", mount, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	removeNetNS(t, sb.NetNSPath)
	removeGroup(t, g.path)
}

func TestStateIsRebuiltAfterAReboot(t *testing.T) {
	for name, begin := range map[string]func(*testing.T, *Node){
		"by the first ADD": func(*testing.T, *Node) {},
		"by a load and an upgrade, as the agent does": func(t *testing.T, n *Node) {
			if _, err := n.Upgrade(t.Context()); err == nil {
				t.Error("the upgrade of nothing succeeded")
			}
			load(t, n)
			mustUpgrade(t, n, UpgradeNone)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, g, sb := newNode(t), newGroup(t), container(t, "one")
			mustAdd(t, n, sb, in(g))
			reboot(t, n, g, sb)
			if err := os.Mkdir(g.path, 0o755); err != nil {
				t.Fatal(err)
			}
			netnstest.Mount(t, sb.NetNSPath)
			g = openGroup(t, g.path)
			// It has not been added since, so nothing of it is missing.
			if err := n.Check(t.Context(), sb); !errors.Is(err, ErrNotAdded) {
				t.Errorf("check before ADD: %v, want ErrNoRecord", err)
			}
			mustDel(t, n, sb)
			begin(t, n)
			mustAdd(t, n, sb, in(g))
			expectOnly(t, n, "after ADD", g, sb)
		})
	}
}

// The clocks of a process may be set to anything: CLOCK_REALTIME by users, CLOCK_BOOTTIME and CLOCK_MONOTONIC
// by the offset of a time namespace. (test/layout checks who uses CLOCK_REALTIME at all.)
func TestCallsOfProcessesWithOtherClocks(t *testing.T) {
	n, g, sb, other := newNode(t), newGroup(t), container(t, "one"), container(t, "two")
	elsewhen := func(c call) {
		t.Helper()
		c.Dir = n.Dir
		cmd := c.command(t)
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		unshare, err := exec.LookPath("unshare")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Args = unshare, []string{unshare, "--time", "--boottime", "1000000", "--monotonic", "1000000",
			"--fork", self}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s in another time: %v %s", c.Verb, err, out)
		}
	}
	elsewhen(call{Verb: "add", Sandbox: sb, Want: in(g)}) // with the load
	mustAdd(t, n, other, in(g))
	expectOnly(t, n, "after ADDs in two times", g, sb, other)
	elsewhen(call{Verb: "reap"})
	if removed, err := n.Reap(t.Context()); len(removed) > 0 || err != nil {
		t.Errorf("reap removed %v, %v", removed, err)
	}
	markOther(t, n)
	elsewhen(call{Verb: "upgrade", Version: "v2"})
	n.Settings = versioned("v2")
	mustUpgrade(t, n, UpgradeNone)
	expectLoaded(t, n, "v2")
	expectOnly(t, n, "after an upgrade in another time", g, sb, other)
	elsewhen(call{Verb: "del", Sandbox: other})
	expectOnly(t, n, "after DEL in another time", g, sb)
	removeNetNS(t, sb.NetNSPath)
	elsewhen(call{Verb: "reap"})
	expect(t, n, "in the end", state{})
}
