// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendAt is send(2) from any address, mapped or not.
func sendAt(t *testing.T, r rawSocket, address uintptr, size int) (n int, errno unix.Errno) {
	t.Helper()
	r.control(t, func(fd int) error {
		sent, _, e := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), address, uintptr(size), unix.MSG_NOSIGNAL, 0, 0)
		n, errno = int(sent), e
		return nil
	})
	return n, errno
}

// Without observers some kernels say that 0 bytes were sent.
func TestSendFromUnmappedMemoryFails(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 1)
	page := unix.Getpagesize()
	three, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(three) }()
	if err := unix.Mprotect(three[2*page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	start := uintptr(unsafe.Pointer(&three[0]))
	r := rawConn(t, client)
	if learns(t, d) {
		for name, address := range map[string]uintptr{"nowhere": 1,
			"begins in protected memory": start + 2*uintptr(page), "ends there": start + 2*uintptr(page) - 8} {
			if n, errno := sendAt(t, r, address, 16); errno != unix.EFAULT {
				t.Errorf("%s: %d bytes, %v", name, n, errno)
			}
		}
	}
	// Mapped and never accessed, so it has no page yet.
	if n, errno := sendAt(t, r, start, page); n != page {
		t.Errorf("untouched memory: %d bytes, %v", n, errno)
	}
	receive(t, server, make([]byte, page))
	send(t, client, server, 100, 2)
}
