// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// netNS is a network namespace with a thread that lives in it. Both end with the test.
type netNS struct {
	work   chan func()
	cookie uint64
}

// The main goroutine keeps the main thread: a namespace that was made on it would live, and seem to be in
// use, as long as the process.
func init() { runtime.LockOSThread() }

func newNetNS(t testing.TB) *netNS {
	t.Helper()
	ns := &netNS{work: make(chan func())}
	ready := make(chan error)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine, and the namespace with it.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		ready <- err
		for f := range ns.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("unshare: %v", err)
	}
	t.Cleanup(func() { close(ns.work) })
	ns.do(func() {
		loopbackUp(t)
		ns.cookie = netnsCookie(t)
	})
	return ns
}

// do runs f on the thread of the namespace.
func (ns *netNS) do(f func()) {
	done := make(chan struct{})
	ns.work <- func() { defer close(done); f() }
	<-done
}

// sysctl writes a setting of the namespace: /proc/sys/net is that of the thread which opens it.
func (ns *netNS) sysctl(t testing.TB, name, value string) {
	t.Helper()
	ns.do(func() {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			t.Error(err)
		}
	})
}

func loopbackUp(t testing.TB) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Error(err)
		return
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Error(err)
	}
}

func netnsCookie(t testing.TB) uint64 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		t.Error(err)
	}
	return cookie
}
