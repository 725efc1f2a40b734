// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"time"

	"golang.org/x/sys/unix"
)

// A waiting is how the calls of a descriptor wait.
type waiting int

const (
	// inKernel: the call itself sleeps, for as long as SO_RCVTIMEO and SO_SNDTIMEO allow; or it does not,
	// because the case has set O_NONBLOCK.
	inKernel waiting = iota
	// inPoll: the descriptor has O_NONBLOCK, and after EAGAIN poll(2) sleeps, as in event-driven programs.
	inPoll
)

// Await makes a call that may wait for one of the events. It makes it once if calls wait in the kernel, and
// otherwise again after each poll(2) until the socket's patience is over. Tasks may call it.
func (s *Sock) Await(events int16, call func() Ret) Ret {
	if s.file && s.waits == inKernel {
		return call() // the limit does not matter
	}
	start := time.Now()
	r := call()
	for tries := 0; s.waits == inPoll && r.Errno == unix.EAGAIN; tries++ {
		if errno := s.pollUntil(start, events); errno != 0 {
			r.Errno = errno
			break
		}
		if tries > 3 {
			// The call returned EAGAIN although poll reported the event. An event loop would spin; here the
			// repetition is bounded.
			time.Sleep(time.Millisecond)
		}
		r = call()
	}
	r.Took, r.limit = time.Since(start), s.limit
	return r
}

// pollUntil waits until an event comes, and then returns 0, or until the time is over.
func (s *Sock) pollUntil(start time.Time, events int16) unix.Errno {
	timeout := time.Duration(-1) // the watchdog ends it by shutdown
	if s.limit > 0 {
		left := s.limit - time.Since(start)
		if left <= 0 {
			return unix.EAGAIN
		}
		timeout = (left + time.Millisecond - 1).Truncate(time.Millisecond)
	} else if s.t.Context.Err() != nil {
		return unix.EAGAIN
	}
	p := unix.PollFd{Fd: int32(s.FD), Events: events}
	r := s.t.poll(&p, timeout)
	if r.Errno == 0 && r.N == 0 {
		return unix.EAGAIN
	}
	return r.Errno
}

// receive makes a receiving system call, with the flags that it has.
func (s *Sock) receive(flags int, trap uintptr, args ...uintptr) Ret {
	// The error queue and the urgent byte never wait.
	return s.unless(flags&(unix.MSG_DONTWAIT|unix.MSG_ERRQUEUE|unix.MSG_OOB) != 0, unix.POLLIN, trap, args...)
}

// transmit is receive for sending.
func (s *Sock) transmit(flags int, trap uintptr, args ...uintptr) Ret {
	return s.unless(flags&unix.MSG_DONTWAIT != 0, unix.POLLOUT, trap, args...)
}

func (s *Sock) unless(never bool, events int16, trap uintptr, args ...uintptr) Ret {
	if never {
		return s.call(trap, args...)
	}
	return s.Await(events, func() Ret { return s.call(trap, args...) })
}

// WaitInKernel clears O_NONBLOCK: from now on calls wait in the kernel.
func (s *Sock) WaitInKernel() {
	s.t.Check(unix.SetNonblock(s.FD, false), "clear O_NONBLOCK")
	s.waits = inKernel
	s.timeouts(s.limit)
}

// Dup is dup(2). The copy waits like the original.
func (s *Sock) Dup() *Sock {
	fd, err := unix.FcntlInt(uintptr(s.FD), unix.F_DUPFD_CLOEXEC, 0)
	s.t.Check(err, "duplicate descriptor")
	d := s.t.Own(fd)
	d.waits, d.limit = s.waits, s.limit
	return d
}
