// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stuck bounds each wait: something is broken then.
const stuck = 10 * time.Second

var errStuck = fmt.Errorf("nothing happened on a socket for %v", stuck)

// interruptions that a wait puts up with.
const interruptions = 1000

func readOnce(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), e
}

func writeOnce(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), e
}

func closeFD(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func acceptOnce(listener int) (int, unix.Errno) {
	fd, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(fd), e
}

func setOption(fd, level, option, value int) error {
	v := int32(value)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	if e != 0 {
		return e
	}
	return nil
}

func pause(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// waiter has what poll needs, so that a wait allocates nothing.
type waiter struct {
	fd    unix.PollFd
	limit unix.Timespec
}

// await waits for events. ppoll rather than poll: every architecture has it.
func (w *waiter) await(fd int, events int16) error {
	for range interruptions {
		w.fd = unix.PollFd{Fd: int32(fd), Events: events}
		w.limit = unix.NsecToTimespec(int64(stuck)) // the kernel writes what is left
		n, _, e := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.fd)), 1, uintptr(unsafe.Pointer(&w.limit)), 0, 0, 0)
		switch {
		case e == unix.EINTR:
		case e != 0:
			return e
		case n == 0:
			return errStuck
		default:
			return nil
		}
	}
	return errors.New("poll was interrupted without end")
}

// ready has what epoll gives.
type ready struct {
	fd     int
	events [256]unix.EpollEvent
}

func newReady() (*ready, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	return &ready{fd: fd}, nil
}

func (r *ready) close() { closeFD(r.fd) }

func (r *ready) add(fd int) error {
	return unix.EpollCtl(r.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (r *ready) wait() ([]unix.EpollEvent, error) {
	for range interruptions {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(r.fd), uintptr(unsafe.Pointer(&r.events[0])),
			uintptr(len(r.events)), uintptr(stuck/time.Millisecond), 0, 0)
		switch {
		case e == unix.EINTR:
		case e != 0:
			return nil, e
		case n == 0:
			return nil, errStuck
		default:
			return r.events[:n], nil
		}
	}
	return nil, errors.New("epoll was interrupted without end")
}
