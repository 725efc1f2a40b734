// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Events are names of the bits of poll(2), which epoll(7) shares.
func Events(bits uint32) string {
	var names []string
	for _, e := range []struct {
		bit  uint32
		name string
	}{
		{unix.POLLIN, "IN"}, {unix.POLLPRI, "PRI"}, {unix.POLLOUT, "OUT"}, {unix.POLLERR, "ERR"},
		{unix.POLLHUP, "HUP"}, {unix.POLLRDHUP, "RDHUP"}, {unix.POLLNVAL, "NVAL"},
	} {
		if bits&e.bit != 0 {
			names = append(names, e.name)
		}
	}
	if names == nil {
		return "nothing"
	}
	return strings.Join(names, "|")
}

// Poll is poll(2) on one descriptor; timeout 0 does not wait.
func (s *Sock) Poll(events int16, timeout time.Duration) string {
	p := unix.PollFd{Fd: int32(s.FD), Events: events}
	r := s.t.poll(&p, s.t.Scaled(timeout).Truncate(time.Millisecond))
	if r.Errno != 0 {
		return Errno(r.Errno)
	}
	return Events(uint32(p.Revents))
}

// poll is poll(2) by the system call that every architecture has. A timeout below 0 means none.
func (t *T) poll(p *unix.PollFd, timeout time.Duration) Ret {
	var until uintptr
	if timeout >= 0 {
		ts := unix.NsecToTimespec(timeout.Nanoseconds())
		until = keep(t, &ts)
	}
	return Call(unix.SYS_PPOLL, keep(t, p), 1, until, 0, 0)
}

// An Epoll is an epoll(7) instance.
type Epoll struct {
	*Sock
}

// Epoll makes an epoll instance.
func (t *T) Epoll() *Epoll {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	t.Check(err, "make epoll")
	return &Epoll{t.Own(fd)}
}

// Add is EPOLL_CTL_ADD, Mod EPOLL_CTL_MOD.
func (e *Epoll) Add(s *Sock, events uint32) string { return e.ctl(unix.EPOLL_CTL_ADD, s, events) }

// Mod is EPOLL_CTL_MOD.
func (e *Epoll) Mod(s *Sock, events uint32) string { return e.ctl(unix.EPOLL_CTL_MOD, s, events) }

func (e *Epoll) ctl(op int, s *Sock, events uint32) string {
	return Errno(unix.EpollCtl(e.FD, op, s.FD, &unix.EpollEvent{Events: events, Fd: int32(s.FD)}))
}

// Wait is one epoll_pwait(2) without a mask of signals, which is epoll_wait(2); timeout 0 does not wait.
func (e *Epoll) Wait(timeout time.Duration) string {
	events := make([]unix.EpollEvent, 8)
	ms := int(e.t.Scaled(timeout) / time.Millisecond)
	r := Call(unix.SYS_EPOLL_PWAIT, uintptr(e.FD), keep(e.t, &events[0]), uintptr(len(events)), uintptr(ms), 0,
		0)
	if r.Errno != 0 {
		return Errno(r.Errno)
	}
	var out []string
	for _, ev := range events[:r.N] {
		out = append(out, Events(ev.Events))
	}
	sort.Strings(out)
	if out == nil {
		return "nothing"
	}
	return strings.Join(out, ",")
}

// Select is select(2) for reading and writing on one descriptor.
func (s *Sock) Select(timeout time.Duration) string {
	var read, write, except unix.FdSet
	read.Set(s.FD)
	write.Set(s.FD)
	except.Set(s.FD)
	tv := unix.NsecToTimeval(int64(s.t.Scaled(timeout)))
	n, err := unix.Select(s.FD+1, &read, &write, &except, &tv)
	if err != nil {
		return Errno(err)
	}
	out := []string{}
	for _, set := range []struct {
		fds  *unix.FdSet
		name string
	}{{&read, "read"}, {&write, "write"}, {&except, "except"}} {
		if n > 0 && set.fds.IsSet(s.FD) {
			out = append(out, set.name)
		}
	}
	return strings.Join(out, "|")
}
