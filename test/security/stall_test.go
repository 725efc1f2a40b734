// SPDX-License-Identifier: Apache-2.0

package security

import (
	"net"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slowPage is memory whose first touch waits until it is told to go on, as a mapping of a file system does that the
// pod itself serves.
type slowPage struct {
	mem []byte
	fd  int
}

// From linux/userfaultfd.h.
const (
	uffdAPI         = 0xaa
	uffdioAPI       = 0xc018aa3f
	uffdioRegister  = 0xc020aa00
	uffdioZeropage  = 0xc020aa04
	registerMissing = 1
)

func newSlowPage(t *testing.T) *slowPage {
	t.Helper()
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		t.Fatalf("userfaultfd: %v", errno)
	}
	mem, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	p := &slowPage{mem, int(fd)}
	api := [3]uint64{uffdAPI}
	p.ioctl(t, uffdioAPI, unsafe.Pointer(&api))
	register := [4]uint64{p.start(), uint64(len(mem)), registerMissing}
	p.ioctl(t, uffdioRegister, unsafe.Pointer(&register))
	t.Cleanup(func() {
		unix.Close(p.fd) // whoever waits goes on
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *slowPage) start() uint64 { return uint64(uintptr(unsafe.Pointer(&p.mem[0]))) }

func (p *slowPage) ioctl(t *testing.T, request uintptr, arg unsafe.Pointer) {
	t.Helper()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.fd), request, uintptr(arg)); errno != 0 {
		t.Fatalf("userfaultfd, request %#x: %v", request, errno)
	}
}

// goOn lets whoever touched the page go on.
func (p *slowPage) goOn(t *testing.T) {
	zero := [4]uint64{p.start(), uint64(len(p.mem)), 0}
	p.ioctl(t, uffdioZeropage, unsafe.Pointer(&zero))
}

// receiveInto receives into the page: the kernel copies while it holds the socket's lock.
func receiveInto(t *testing.T, c *net.TCPConn, p *slowPage) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	control(t, c, func(fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		go func() {
			defer unix.Close(dup)
			n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(dup), uintptr(unsafe.Pointer(&p.mem[0])), 1, 0, 0, 0)
			if errno != 0 || n != 1 {
				done <- errno
				return
			}
			done <- nil
		}()
		return err
	})
	return done
}

// A reader that is in the middle of a slow copy holds its socket, and with it whoever redirects to that, even a sender
// that never waits. By TCP the sender does not notice. Whom that can be done to is what peers decides.
func TestReaderOnASlowPageHoldsWhoRedirectsToIt(t *testing.T) {
	for peers, want := range map[string]bool{"node": true, "namespace": false} {
		t.Run(peers, func(t *testing.T) {
			w := newWorld(t, map[string]any{"peers": peers})
			reader, sender := connect(t, w.attacker, listen(t, w.other, port))
			pass(t, sender, reader, "hello")
			if _, joined := w.flowOf(sender); joined != want {
				t.Fatalf("a flow: %v, want %v", joined, want)
			}
			page := newSlowPage(t)
			if _, err := sender.Write([]byte("a")); err != nil {
				t.Fatal(err)
			}
			received := receiveInto(t, reader, page)
			time.Sleep(200 * time.Millisecond) // for it to be in its copy
			sent := make(chan error, 1)
			go func() { _, err := sender.Write([]byte("b")); sent <- err }()
			held := false
			select {
			case err := <-sent:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Second):
				held = true
			}
			if held != want {
				t.Errorf("the sender is held: %v, want %v", held, want)
			}
			page.goOn(t)
			if err := within(received); err != nil {
				t.Fatal(err)
			}
			if held {
				if err := within(sent); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := take(reader, 1, 5*time.Second); page.mem[0] != 'a' || got != "b" {
				t.Errorf("received %q and %q, %v", page.mem[0], got, err)
			}
		})
	}
}

func within(done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Second):
		return unix.ETIMEDOUT
	}
}
