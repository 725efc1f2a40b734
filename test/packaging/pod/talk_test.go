// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/loopback"
	"golang.org/x/sys/unix"
)

// talkers is a process with both ends of a connection, in its own cgroup and named network namespace.
type talkers struct {
	cgroup string
	netns  string
	cmd    *exec.Cmd
	stdin  io.Closer
}

func newTalkers(t *testing.T) *talkers {
	t.Helper()
	g := &talkers{cgroup: newCgroup(t)}
	g.netns = filepath.Join("/run/netns", filepath.Base(g.cgroup))
	if err := os.WriteFile(g.netns, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.stop(t) })
	return g
}

func (g *talkers) start(t *testing.T) {
	t.Helper()
	dir, err := os.Open(g.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	g.cmd = exec.Command("/proc/self/exe")
	g.cmd.Env = []string{talkVariable + "=1"}
	g.cmd.Stderr = os.Stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()),
		Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if g.stdin, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("no connection: %v", err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/net", g.cmd.Process.Pid), g.netns, "", unix.MS_BIND,
		""); err != nil {
		t.Fatal(err)
	}
}

// stop removes everything. It may be called again.
func (g *talkers) stop(t *testing.T) {
	t.Helper()
	if g.cmd != nil {
		g.stdin.Close()
		g.cmd.Wait()
		g.cmd = nil
		if err := unix.Unmount(g.netns, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(g.netns); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	removeCgroup(t, g.cgroup)
}

// talk connects to itself over loopback, and ends with its standard input.
func talk() error {
	if err := loopback.Up(); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return err
	}
	server, err := l.Accept()
	if err != nil {
		return err
	}
	if _, err := client.Write([]byte("x")); err != nil {
		return err
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		return err
	}
	fmt.Println("connected")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
