// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// testRestarts restarts parts that the pods do not need while they run.
func testRestarts(t *testing.T) {
	installed(t)
	c, s, clientPod, serverPod := pair(t)
	redirecting(t, c.name, clientPod.Metadata.Name)
	for _, d := range []*daemon{kubelet, runtimeDaemon, kubelet} {
		for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
			before := goesOn(t, c.name, 0)
			if err := d.restart(signal); err != nil {
				t.Fatal(err)
			}
			if after := goesOn(t, c.name, 200); after.Connections != before.Connections {
				t.Errorf("%d connections before, %d after the restart of %s", before.Connections, after.Connections,
					d.name)
			}
			redirecting(t, c.name, clientPod.Metadata.Name)
		}
	}
	wantSame(t, c.name, clientPod)
	wantSame(t, s.name, serverPod)
	wantAccelerated(t, clientPod, serverPod)
	wantRedirected(t, serverPod.Metadata.Name, serverPod.at())
	// A pod that starts now is accelerated, too.
	late := server("late")
	deploy(t, late)
	wantRedirected(t, podOf(t, late.name).Metadata.Name, serverPod.at())
}

// testReboot removes everything from the node that a reboot removes: processes, /run, bpffs, the network of
// the pods. The control plane continues, as if it were on another machine. The kubelet makes every pod again.
func testReboot(t *testing.T) {
	installed(t)
	c, s, clientPod, _ := pair(t)
	redirecting(t, c.name, clientPod.Metadata.Name)
	loaded := statusOfNode(t).Node.LoadedAt
	reboot(t)

	eventually(t, "the pods are started again", func() error {
		for _, name := range []string{c.name, s.name} {
			if p := podOf(t, name); len(p.Status.ContainerStatuses) != 1 ||
				p.Status.ContainerStatuses[0].RestartCount == 0 {
				return fmt.Errorf("%s: %+v", name, p)
			}
		}
		return nil
	})
	for _, name := range []string{c.name, s.name} {
		rolledOut(t, "deployment/"+name)
	}
	rolledOut(t, daemonSet, "-n", namespace)
	eventually(t, "the agent has loaded the programs again", func() error {
		out, err := kubectl("-n", namespace, "exec", daemonSet, "--", "/usr/local/bin/sockmapctl", "status")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if again := statusOfNode(t).Node.LoadedAt; !again.After(loaded) {
		t.Errorf("loaded at %v, and after the reboot at %v", loaded, again)
	}
	// The server may have another address now, which the client does not know. So both are replaced, as by a
	// rollout.
	serverPod := podOf(t, s.name)
	wantAccelerated(t, serverPod)
	fresh := client("fresh", serverPod.at(), "-requests", "0")
	deploy(t, fresh)
	redirecting(t, fresh.name, podOf(t, fresh.name).Metadata.Name)
	wantRedirected(t, serverPod.Metadata.Name, serverPod.at())
}

// reboot stops the node's daemons, ends all pods, empties the directories that a reboot empties, and starts
// the daemons.
func reboot(t *testing.T) {
	t.Helper()
	if err := errors.Join(proxy.stop(unix.SIGTERM), kubelet.stop(unix.SIGTERM),
		runtimeDaemon.stop(unix.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	all, unified, err := lab.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(unified, cgroupRoot, "cgroup.kill"), []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	killShims(t)
	for _, mount := range all {
		if err := lab.RemoveCgroups(filepath.Join(mount, cgroupRoot, "kubepods")); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []mount{runMount, bpffsMount} {
		if err := errors.Join(unmountAll(m.target), m.make()); err != nil {
			t.Fatal(err)
		}
	}
	if err := unmountAll("/var/lib/kubelet/pods"); err != nil {
		t.Fatal(err)
	}
	if bridge, err := netlink.LinkByName("cni0"); err != nil {
		t.Error(err)
	} else if err := netlink.LinkDel(bridge); err != nil {
		t.Error(err)
	}
	for _, table := range []string{"filter", "nat", "mangle"} {
		if _, err := command("iptables", "-w", "-t", table, "-F"); err != nil {
			t.Error(err)
		}
	}
	for _, d := range []*daemon{runtimeDaemon, kubelet, proxy} {
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
	}
}

// killShims ends the processes that are neither in the pods' cgroups nor daemons. Processes of other tests
// are not visible here.
func killShims(t *testing.T) {
	t.Helper()
	shims := func() (pids []int) {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			b, _ := os.ReadFile(file)
			name, _, _ := strings.Cut(string(b), "\x00")
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil &&
				strings.Contains(name, "containerd-shim") {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	for _, pid := range shims() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	eventually(t, "the shims are gone", func() error {
		if left := shims(); len(left) > 0 {
			return fmt.Errorf("processes %v", left)
		}
		return nil
	})
}

// unmountAll removes the mounts at a directory and below it.
func unmountAll(dir string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 4 &&
			(fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			points = append(points, fields[4])
		}
	}
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", point, err)
		}
	}
	return nil
}
