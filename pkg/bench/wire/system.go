// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func readOnce(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)))
	return int(n), e
}

func writeOnce(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)))
	return int(n), e
}

func closeFD(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func acceptOnce(listener int) (int, unix.Errno) {
	fd, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0,
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
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

// await waits for events. It uses ppoll, because not every architecture has poll.
func (w *waiter) await(fd int, events int16) error {
	for {
		w.fd = unix.PollFd{Fd: int32(fd), Events: events}
		_, _, e := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.fd)), 1, 0, 0, 0, 0)
		if e == 0 {
			return nil
		}
		if err := w.interrupted(e); err != nil {
			return err
		}
	}
}

// forever, as epoll takes it: -1.
const forever = ^uintptr(0)

// ready has the events of epoll.
type ready struct {
	fd     int
	w      *waiter
	events [256]unix.EpollEvent
}

func newReady(w *waiter) (*ready, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	return &ready{fd: fd, w: w}, nil
}

func (r *ready) close() { closeFD(r.fd) }

func (r *ready) add(fd int) error {
	return unix.EpollCtl(r.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (r *ready) wait() ([]unix.EpollEvent, error) {
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(r.fd), uintptr(unsafe.Pointer(&r.events[0])),
			uintptr(len(r.events)), forever, 0, 0)
		if e == 0 {
			return r.events[:n], nil
		}
		if err := r.w.interrupted(e); err != nil {
			return nil, err
		}
	}
}
