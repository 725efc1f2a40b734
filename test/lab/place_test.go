// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

// cgroupsOf returns the IDs of the cgroups of all TCP sockets in the calling thread's network namespace, by
// inode of the socket.
func cgroupsOf(t *testing.T) map[uint32]uint64 {
	t.Helper()
	const inetDiagCgroupID = 21 // INET_DIAG_CGROUP_ID
	found := map[uint32]uint64{}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		query := make([]byte, 56) // struct inet_diag_req_v2, any socket
		query[0], query[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(query[4:], 0xffffffff) // in any state
		req.AddRawData(query)
		msgs, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs { // struct inet_diag_msg, attributes
			attrs, err := nl.ParseRouteAttr(m[72:])
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range attrs {
				if a.Attr.Type == inetDiagCgroupID {
					found[binary.NativeEndian.Uint32(m[68:])] = binary.NativeEndian.Uint64(a.Value)
				}
			}
		}
	}
	return found
}

func inode(t *testing.T, conn syscall.Conn) uint32 {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if cerr := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return uint32(st.Ino)
}

func TestSocketsBelongToTheirPod(t *testing.T) {
	_, client, server, _ := twoPods(t)
	if client.NetNSCookie() == server.NetNSCookie() {
		t.Fatal("two pods share a network namespace")
	}
	l, err := server.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	dialed, err := client.Dial("tcp", netip.AddrPortFrom(server.IP4(), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	for _, c := range []struct {
		name string
		pod  *lab.Pod
		conn any
	}{{"listener", server, l}, {"accepted", server, accepted}, {"dialed", client, dialed}} {
		var st unix.Stat_t
		if err := unix.Stat(c.pod.ContainerCgroup(), &st); err != nil {
			t.Fatal(err)
		}
		err := c.pod.Do(func() error {
			// Every socket in the list is in this network namespace.
			got, ok := cgroupsOf(t)[inode(t, c.conn.(syscall.Conn))]
			if !ok || got != st.Ino {
				t.Errorf("%s socket is in cgroup %d (%v), want %d", c.name, got, ok, st.Ino)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestDoReturnsToItsNamespaceAndCgroup(t *testing.T) {
	n, _ := newNode(t)
	p := labtest.NewPod(t, n, lab.PodSpec{})
	whereabouts := func() string {
		cgroup, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		net, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return net + string(cgroup)
	}
	home := whereabouts()
	var away string
	broken := errors.New("broken")
	if err := p.Do(func() error { away = whereabouts(); return broken }); !errors.Is(err, broken) {
		t.Errorf("Do() = %v, want %v", err, broken)
	}
	if away == home {
		t.Error("Do did not change the namespace")
	}
	for name, end := range map[string]func(){
		"return": func() {}, "goexit": runtime.Goexit, "panic": func() { panic("of the test") },
	} {
		done := make(chan string)
		go func() {
			defer func() {
				_ = recover()
				done <- whereabouts()
			}()
			_ = p.Do(func() error { end(); return nil })
		}()
		if got := <-done; got != home {
			t.Errorf("%s: came back to\n%s, left\n%s", name, got, home)
		}
	}
}

func TestPendingDialDoesNotBlockOthers(t *testing.T) {
	n, conflist := newNode(t)
	p := labtest.NewPod(t, n, lab.PodSpec{Conflist: conflist})
	h, err := n.External(t.Context(), "silent")
	if err != nil {
		t.Fatal(err)
	}
	// An address of the link that no machine has: ARP takes seconds to give up.
	nobody := netip.AddrPortFrom(h.IPs()[0].Next(), 80)
	ctx, cancel := context.WithCancel(t.Context())
	dialed := make(chan error, 1)
	made := make(chan struct{})
	go func() {
		_, err := p.DialContext(ctx, "tcp", nobody.String(),
			lab.WithControl(func(int) error { close(made); return nil }))
		dialed <- err
	}()
	<-made
	if err := p.Do(func() error { return nil }); err != nil {
		t.Error(err)
	}
	select {
	case err := <-dialed:
		t.Fatalf("Dial was over before Do: %v", err)
	default:
	}
	cancel()
	if err := <-dialed; err == nil {
		t.Errorf("%s answers, although no machine has it", nobody)
	}
}

func TestNamesAreNotLookedUp(t *testing.T) {
	n, _ := newNode(t)
	if _, err := n.Dial("tcp", "localhost:80"); err == nil {
		t.Error("localhost:80 was dialed")
	}
	if _, err := n.Listen("tcp", ":80"); err == nil {
		t.Error(":80 was listened on")
	}
}

func TestProcessesOfAPodEndWithIt(t *testing.T) {
	n, conflist := newNode(t)
	p := labtest.NewPod(t, n, lab.PodSpec{Conflist: conflist})
	out, err := p.Output(t.Context(), "sh", "-c", "cat /proc/self/cgroup; readlink /proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if want := "/pod" + p.Spec().UID + "/" + p.ContainerID(); !strings.Contains(string(out), want) {
		t.Errorf("a process of the pod is in\n%s, want %s", out, want)
	}
	sleep := p.Command(t.Context(), "sleep", "1000")
	if err := p.Start(sleep); err != nil {
		t.Fatal(err)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- sleep.Wait() }()
	if err := fixture.Receive(t, "a process of the pod has ended", waited); err == nil {
		t.Error("sleep ended well")
	}
	for _, path := range []string{p.NetNS(), p.CgroupPath()} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there (%v)", path, err)
		}
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Errorf("second Delete: %v", err)
	}
}

func TestTwoSandboxesShareThePodsCgroup(t *testing.T) {
	n, conflist := newNode(t)
	old := labtest.NewPod(t, n, lab.PodSpec{UID: "5d0a3c52-0000-4000-a000-000000000001", Conflist: conflist})
	renewed := labtest.NewPod(t, n, lab.PodSpec{UID: old.Spec().UID, Conflist: conflist})
	if old.CgroupPath() != renewed.CgroupPath() || old.ContainerCgroup() == renewed.ContainerCgroup() {
		t.Fatalf("cgroups %s and %s", old.ContainerCgroup(), renewed.ContainerCgroup())
	}
	if err := old.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := renewed.Do(func() error { return nil }); err != nil {
		t.Errorf("the new sandbox has lost its cgroup: %v", err)
	}
}

func TestAContainerHasACgroupOfItsOwn(t *testing.T) {
	n, conflist := newNode(t)
	p := labtest.NewPod(t, n, lab.PodSpec{Conflist: conflist})
	c, err := p.Container("proxy")
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Output(t.Context(), "cat", "/proc/self/cgroup")
	if want := filepath.Base(p.CgroupPath()) + "/proxy\n"; err != nil || !strings.HasSuffix(string(out), want) {
		t.Errorf("a process of the container is in %q, %v; want %q", out, err, want)
	}
	if c.NetNSCookie() != p.NetNSCookie() {
		t.Error("the container is in another network namespace than its pod")
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.CgroupPath()); !os.IsNotExist(err) {
		t.Errorf("after the pod its cgroup remains: %v", err)
	}
}
