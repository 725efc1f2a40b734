// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// Differences that remain after a switch to TCP are reported only if there are connections with them.
func TestDisableReportsDifferencesThatRemain(t *testing.T) {
	n, g := newTestNode(t), newGroup(t)
	n.probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
		return uint32(hazard.SetOf("eagain", "splice", "mptcp")), uint32(hazard.SetOf("splice")), nil
	}
	const (
		differ = "their connections differ from plain TCP until they are closed: "
		stay   = "sockets that stay in the sockhash until their connections end: 1 have redirected bytes unread\n"
	)
	n.ok(t, "load")
	if out := n.ok(t, "disable"); out != "disabled: all flows use TCP\n" {
		t.Errorf("without connections: %q", out)
	}
	n.ok(t, "enable")
	n.ok(t, "attach", "--cgroup", g.path, "--accept-hazards", "all")
	connect(t, g, &netnstest.NetNS{}, 5) // which leave
	unread := connect(t, g, &netnstest.NetNS{}, 1)[0]
	for _, c := range []net.Conn{unread.client, unread.server} {
		if _, err := c.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(unread.client, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		verb  string
		says  string
		never []string
	}{
		{"disable", differ + "eagain (a blocking receive", []string{"splice", "mptcp"}}, // its guard still runs
		{"unload", differ + "splice (splice(2)", []string{"mptcp"}},                     // and now it does not
	} {
		out := n.ok(t, tt.verb)
		if !strings.Contains(out, stay) || !strings.Contains(out, tt.says) || !strings.Contains(out, "eagain") ||
			!strings.Contains(out, "restart the containers") {
			t.Errorf("%s says %q, want %q", tt.verb, out, tt.says)
		}
		for _, word := range tt.never {
			if strings.Contains(out, word) {
				t.Errorf("%s says %q, with %q", tt.verb, out, word)
			}
		}
	}
}

// An unload reports flows that it has not reached.
func TestUnpinnedFlowsAreReportedOrSwitchedOff(t *testing.T) {
	n := newTestNode(t)
	// A map that is not there: its last flow has ended when it is to be switched off.
	n.strays = func() ([]datapath.Stray, error) {
		return []datapath.Stray{{Config: 1 << 30, ABI: 1, Sockets: 7, Sure: true}}, nil
	}
	stray := fmt.Sprintf("7 sockets of ABI 1 that no pin leads to (config is map %d)", 1<<30)
	for _, args := range [][]string{{"unload"}, {"uninstall", "--cni-bin-dir", t.TempDir(), "--cni-conf-dir",
		t.TempDir(), "--cni-cache-dir", ""}} {
		r := n.run(t, args...)
		if r.code != exitError || !strings.Contains(r.stderr,
			stray+": live flows are still redirected (send them to TCP with: sockmapctl unload --force)") {
			t.Errorf("%s: exit code %d, %q", args[0], r.code, r.stderr)
		}
	}
	if r := n.run(t, "status"); r.code != exitNotLoaded || !strings.Contains(r.stdout, "NOT OK  "+stray) ||
		!strings.Contains(r.stdout, "next        sockmapctl unload --force") {
		t.Errorf("status: exit code %d\n%s", r.code, r.stdout)
	}
	n.strays = func() ([]datapath.Stray, error) {
		return []datapath.Stray{{Config: 1 << 30, ABI: 1, Sockets: 7, UsedBy: "process 12 (bench)"}}, nil
	}
	if r := n.run(t, "unload", "--force"); r.code != exitOK || strings.Contains(r.stdout+r.stderr, "sockets") {
		t.Errorf("what a process uses was not left alone: %+v", r)
	}
	if out := n.run(t, "status").stdout; !strings.Contains(out,
		"ok      7 sockets of ABI 1 that process 12 (bench) has loaded for itself") {
		t.Errorf("status does not name the process that has loaded:\n%s", out)
	}
	n.strays = func() ([]datapath.Stray, error) {
		return []datapath.Stray{{Config: 1 << 30, ABI: 1, Sockets: 7}}, nil
	}
	if r := n.run(t, "unload", "--force"); r.code != exitOK ||
		!strings.Contains(r.stderr, stray+", unless another container") ||
		strings.Contains(r.stdout, "TCP") {
		t.Errorf("inside a container: exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	n.strays = func() ([]datapath.Stray, error) {
		return []datapath.Stray{{Config: 1 << 30, ABI: 1, Sockets: 7, Sure: true}}, nil
	}
	if out := n.ok(t, "unload", "--force"); !strings.Contains(out, stray+": sent to TCP") {
		t.Errorf("with force it says %q", out)
	}
}

// The state may be on a bpffs of another mount namespace.
func TestStateInOtherDirectoriesAndMountNamespacesIsReported(t *testing.T) {
	h := host{pinned: func() ([]string, error) {
		return []string{"/here", "/there", fmt.Sprintf("/proc/%d/root/sys/fs/bpf/sockmap", os.Getpid())}, nil
	}}
	found := h.checkElsewhere("/here")
	if len(found) != 2 || !found[0].OK || !strings.Contains(found[0].Detail, "--bpffs-path /there") ||
		!strings.Contains(found[1].Detail,
			fmt.Sprintf("nsenter -m -t %d sockmapctl --bpffs-path /sys/fs/bpf/sockmap status", os.Getpid())) {
		t.Errorf("found %+v", found)
	}
}

func TestStatusDistinguishesUnloadFromDisable(t *testing.T) {
	n := newTestNode(t)
	n.ok(t, "load")
	d, err := datapath.Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.SwitchOffToUnload(); err != nil {
		t.Fatal(err)
	}
	if out := n.run(t, "status").stdout; !strings.Contains(out, "OFF: an unload runs or was interrupted") {
		t.Errorf("status:\n%s", out)
	}
	n.ok(t, "load")
	if out := n.run(t, "status").stdout; strings.Contains(out, "OFF") {
		t.Errorf("status after a load:\n%s", out)
	}
}
