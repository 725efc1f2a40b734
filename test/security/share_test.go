// SPDX-License-Identifier: Apache-2.0

package security

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// A pod cannot use up the capacity that others need: when half of it is used, pods with more than a quarter
// get no more.
func TestFloodOfConnectionsLeavesRoomForOthers(t *testing.T) {
	const room = 64
	w := newWorld(t, map[string]any{"maxSockets": room})
	own, others := listen(t, w.attacker, port), listen(t, w.other, port)
	flood := make([]net.Conn, 0, 2*room)
	for range room {
		client, server := connect(t, w.attacker, own)
		flood = append(flood, client, server)
	}
	if n := w.counted(w.attacker, datapath.RoleActive, datapath.ResultShare); n == 0 {
		t.Fatal("nothing was refused, so this test shows nothing")
	}
	if held := w.flows(); held > room/2+1 {
		t.Errorf("the flood holds %d of %d sockets", held, room)
	}
	client, server := connect(t, w.other, others)
	pass(t, client, server, "from socket to socket")
	pass(t, server, client, "both ways")
	if f, ok := w.flowOf(client); !ok || !f.Joined || f.RedirectedBytes == 0 {
		t.Errorf("a connection of another pod: %+v", f)
	}
	if n := w.counted(w.other, datapath.RoleActive, datapath.ResultJoined); n != 1 {
		t.Errorf("%d connections of the other pod have joined, want 1", n)
	}
	for _, c := range flood {
		c.Close()
	}
	eventually(t, "connections of the pod that flooded are accelerated again", func() bool {
		client, server := connect(t, w.attacker, own)
		defer client.Close()
		defer server.Close()
		pass(t, client, server, "again")
		f, _ := w.flowOf(client)
		return f.RedirectedBytes > 0
	})
}

// The pins are in directories of mode 0700. The user nobody is in the role of a process that has escaped from
// a pod without capabilities.
func TestPinsAreOnlyForRoot(t *testing.T) {
	w := newWorld(t, nil)
	dir := w.node.BPFFS()
	state := filepath.Join(dir, fmt.Sprintf("v%d", datapath.ABI))
	for _, path := range []string{dir, state, filepath.Join(state, "links")} {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o700 || st.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s: mode %v of %d", path, st.Mode(), st.Sys().(*syscall.Stat_t).Uid)
		}
	}
	for _, command := range [][]string{{"ls", dir}, {"ls", "-d", filepath.Join(state, "config")}} {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("the user nobody sees %s", out)
		}
	}
}

// With TCP_REPAIR anybody who has CAP_NET_ADMIN in a pod chooses ISNs freely.
func TestRepairedSocketOfAPodJoinsNoFlow(t *testing.T) {
	w := newWorld(t, nil)
	l := listen(t, w.other, port)
	address := l.Addr().(*net.TCPAddr).AddrPort()
	fd := -1
	err := w.attacker.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
			return err
		}
		return connectTo(fd, address)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if n := w.counted(w.attacker, datapath.RoleActive, resultNamed(t, "repair")); n != 1 {
		t.Errorf("%d connections counted as repaired, want 1", n)
	}
	if flows := w.flows(); flows != 0 {
		t.Errorf("%d sockets are in a flow", flows)
	}
}

func (w *world) flows() (n int) {
	w.Helper()
	if err := w.d.Flows(func(datapath.Flow) bool { n++; return true }); err != nil {
		w.Fatal(err)
	}
	return n
}

func resultNamed(t *testing.T, name string) datapath.Result {
	t.Helper()
	for _, r := range datapath.Results() {
		if r.String() == name {
			return r
		}
	}
	t.Fatalf("no result %s", name)
	return 0
}
