// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is how much of an option the kernel shows to programs of a cgroup.
const page = 4096

// For example, iptables in a container sets and reads its whole table at once.
func TestOptionsLargerThanAPageAreLeftAlone(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	t.Run("setsockopt", func(t *testing.T) {
		client, _ := g.pair(t, "tcp4", "127.0.0.1:0")
		large := make([]byte, 2*page)
		large[0] = 1
		rawConn(t, client).control(t, func(fd int) error {
			return unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, string(large))
		})
	})
	t.Run("getsockopt", func(t *testing.T) {
		groups := make([]uint32, page/4+100)
		fds, err := socketPairOf(t, g, groups)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		got := make([]uint32, len(groups))
		n := uint32(4 * len(got))
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fds[0]), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&got[0])), uintptr(unsafe.Pointer(&n)), 0)
		if e != 0 || n != uint32(4*len(groups)) || got[len(got)-1] != groups[len(groups)-1] {
			t.Errorf("SO_PEERGROUPS: %d bytes, last is %d, errno %d; want %d bytes, last %d",
				n, got[len(got)-1], e, 4*len(groups), groups[len(groups)-1])
		}
	})
}

// socketPairOf is made by a thread with these groups, which it fills in. The thread ends outside the group:
// while it ends, it would keep the cgroup busy.
func socketPairOf(t *testing.T, g *group, groups []uint32) (fds [2]int, err error) {
	t.Helper()
	for i := range groups {
		groups[i] = uint32(1000 + i)
	}
	left := make(chan struct{})
	defer close(left)
	g.in(t, func() {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread() // and never unlocked
			if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)),
				uintptr(unsafe.Pointer(&groups[0])), 0); e != 0 {
				err = e
			} else {
				fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			}
			close(done)
			<-left
		}()
		<-done
	})
	return fds, err
}
