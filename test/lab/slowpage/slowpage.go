// SPDX-License-Identifier: Apache-2.0

// Package slowpage holds a receive call in its copy, and with it the lock of the socket, for tests of what
// others do meanwhile.
package slowpage

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Page is memory whose first access waits until GoOn, like a mapping of a file on a slow FUSE file system.
type Page struct {
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

// T is the part of testing.TB that a page needs.
type T interface {
	Helper()
	Error(args ...any)
	Fatal(args ...any)
	Cleanup(f func())
}

// New needs root, or vm.unprivileged_userfaultfd, as it holds a thread in the kernel. The page is removed at
// the end of the test, which also releases a waiting access.
func New(t T) *Page {
	t.Helper()
	p, err := open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func open() (p *Page, err error) {
	p = &Page{fd: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		return p, fmt.Errorf("userfaultfd: %w", errno)
	}
	p.fd = int(fd)
	p.mem, err = unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return p, fmt.Errorf("map a page: %w", err)
	}
	api := [3]uint64{uffdAPI}
	if err := p.ioctl(uffdioAPI, unsafe.Pointer(&api)); err != nil {
		return p, err
	}
	register := [4]uint64{p.start(), uint64(len(p.mem)), registerMissing}
	return p, p.ioctl(uffdioRegister, unsafe.Pointer(&register))
}

func (p *Page) close() error {
	var errs []error
	if p.fd >= 0 {
		errs = append(errs, unix.Close(p.fd))
	}
	if p.mem != nil {
		errs = append(errs, unix.Munmap(p.mem))
	}
	return errors.Join(errs...)
}

// Receive receives one byte of the socket fd into the page, by a system call in its own goroutine. The byte
// must have arrived. Receive returns when the call is held in its copy. The result of the call comes after
// GoOn.
func (p *Page) Receive(fd int) (<-chan error, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the socket: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		defer unix.Close(dup)
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(dup), uintptr(unsafe.Pointer(&p.mem[0])), 1, 0, 0,
			0)
		switch {
		case errno != 0:
			done <- fmt.Errorf("receive into the page: %w", errno)
		case n != 1:
			done <- fmt.Errorf("received %d bytes into the page, want 1", n)
		default:
			done <- nil
		}
	}()
	return done, p.awaitTouch(done)
}

const touchTimeout = 20 * time.Second

func (p *Page) awaitTouch(done <-chan error) error {
	touched := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(touchTimeout); time.Now().Before(end); {
		if n, err := unix.Poll(touched, 100); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the page to be touched: %w", err)
		} else if n > 0 {
			return nil
		}
		select {
		case err := <-done:
			return fmt.Errorf("the call has not touched the page: %w", err)
		default:
		}
	}
	return fmt.Errorf("no access to the page within %s", touchTimeout)
}

// GoOn lets the access to the page continue. The page then has zeroes.
func (p *Page) GoOn() error {
	zero := [4]uint64{p.start(), uint64(len(p.mem)), 0}
	return p.ioctl(uffdioZeropage, unsafe.Pointer(&zero))
}

// Byte is the byte that was received, after the call has returned.
func (p *Page) Byte() byte { return p.mem[0] }

func (p *Page) start() uint64 { return uint64(uintptr(unsafe.Pointer(&p.mem[0]))) }

func (p *Page) ioctl(request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.fd), request, uintptr(arg)); errno != 0 {
		return fmt.Errorf("userfaultfd, request %#x: %w", request, errno)
	}
	return nil
}
