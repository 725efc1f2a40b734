// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is how long a call waits before it counts as blocked.
const patience = time.Second

// A Sock is a descriptor that a run owns. Its calls are direct system calls, without the Go runtime's poller,
// and tasks may make them. Where they wait, see [Case.Blocking].
type Sock struct {
	FD   int
	t    *T
	file bool // not a TCP socket: no timeouts, no shutdown

	mu     sync.Mutex // guards closed
	closed bool
	waits  waiting
	limit  time.Duration
}

// Patience sets how long receiving and sending may wait from now on.
func (s *Sock) Patience(d time.Duration) {
	s.limit = s.t.Scaled(d)
	s.timeouts(s.limit)
}

// Endless lets calls wait until the watchdog ends them: a call with a timeout is never restarted after a
// signal.
func (s *Sock) Endless() {
	s.limit = 0
	s.timeouts(0)
}

func (s *Sock) timeouts(d time.Duration) {
	if s.waits != inKernel {
		return
	}
	tv := unix.NsecToTimeval(int64(d))
	_ = unix.SetsockoptTimeval(s.FD, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	_ = unix.SetsockoptTimeval(s.FD, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
}

// Close closes the descriptor, once.
func (s *Sock) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		unix.Close(s.FD)
	}
}

// Release gives up ownership of the descriptor. The new owner closes it.
func (s *Sock) Release() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.FD
}

// abort makes every call on the socket return.
func (s *Sock) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && !s.file {
		_ = unix.Shutdown(s.FD, unix.SHUT_RDWR)
	}
}

// call makes a system call.
func (s *Sock) call(trap uintptr, args ...uintptr) Ret {
	r := Call(trap, append([]uintptr{uintptr(s.FD)}, args...)...)
	r.limit = s.limit
	return r
}

// received adds the bytes that were received into b to r.
func received(r Ret, b []byte) Ret {
	r.Data = []byte{}
	if r.N > 0 {
		r.Data = b[:min(r.N, len(b))]
	}
	return r
}

// Recv is recv(2) of at most n bytes.
func (s *Sock) Recv(n, flags int) Ret {
	b := s.t.Buffer(n)
	return received(s.receive(flags, unix.SYS_RECVFROM, Address(b), uintptr(n), uintptr(flags), 0, 0), b)
}

// RecvNull is recv(2) without a buffer, as MSG_TRUNC allows.
func (s *Sock) RecvNull(n, flags int) Ret {
	return s.receive(flags, unix.SYS_RECVFROM, 0, uintptr(n), uintptr(flags), 0, 0)
}

// Read is read(2).
func (s *Sock) Read(n int) Ret {
	b := s.t.Buffer(n)
	return received(s.receive(0, unix.SYS_READ, Address(b), uintptr(n)), b)
}

// ReadAt is recv(2) to an address that the caller chooses.
func (s *Sock) ReadAt(address uintptr, n, flags int) Ret {
	return s.receive(flags, unix.SYS_RECVFROM, address, uintptr(n), uintptr(flags), 0, 0)
}

// Send is send(2) with MSG_NOSIGNAL.
func (s *Sock) Send(b string, flags int) Ret { return s.SendBytes([]byte(b), flags) }

// SendBytes is Send.
func (s *Sock) SendBytes(b []byte, flags int) Ret {
	return s.transmit(flags, unix.SYS_SENDTO, s.t.held(b), uintptr(len(b)), uintptr(flags|unix.MSG_NOSIGNAL), 0,
		0)
}

// SendAt is send(2) from an address that the caller chooses.
func (s *Sock) SendAt(address uintptr, n, flags int) Ret {
	return s.transmit(flags, unix.SYS_SENDTO, address, uintptr(n), uintptr(flags|unix.MSG_NOSIGNAL), 0, 0)
}

// Write is write(2).
func (s *Sock) Write(b []byte) Ret {
	return s.transmit(0, unix.SYS_WRITE, s.t.held(b), uintptr(len(b)))
}

// WriteAll sends all of b and returns the last call's result.
func (s *Sock) WriteAll(b []byte) (r Ret) {
	for sent := 0; sent < len(b); sent += r.N {
		if r = s.SendBytes(b[sent:], 0); r.Errno != 0 {
			return r
		}
	}
	r.N = len(b)
	return r
}

// ReadFull reads n bytes, or fewer if the stream ends or a call fails. The last Ret has the reason.
func (s *Sock) ReadFull(n int) (b []byte, last Ret) {
	b = s.t.Buffer(n)
	for got := 0; got < n; got += last.N {
		last = s.receive(0, unix.SYS_RECVFROM, Address(b[got:]), uintptr(n-got), 0, 0, 0)
		if last.N <= 0 {
			return b[:got], last
		}
	}
	return b, last
}

// ReadText is ReadFull with the result as text: the bytes, and what ended them early. Tasks may call it.
func (s *Sock) ReadText(n int) string {
	got, last := s.ReadFull(n)
	if len(got) == n {
		return Text(got)
	}
	return Text(got) + early + last.String()
}

// early separates bytes from what ended them early.
const early = ", then "

// ReadAll reads until the end of the stream or an error. The last Ret has which.
func (s *Sock) ReadAll() (b []byte, last Ret) {
	buf := s.t.Buffer(64 << 10)
	for {
		last = s.receive(0, unix.SYS_RECVFROM, Address(buf), uintptr(len(buf)), 0, 0, 0)
		if last.N <= 0 {
			return b, last
		}
		b = append(b, buf[:last.N]...)
	}
}

// Shutdown is shutdown(2).
func (s *Sock) Shutdown(how int) Ret { return s.call(unix.SYS_SHUTDOWN, uintptr(how)) }

// Nonblock makes calls return EAGAIN instead of waiting, or undoes that.
func (s *Sock) Nonblock(on bool) {
	s.waits, s.limit = inKernel, 0
	if !on {
		s.waits, s.limit = s.t.waits, s.t.Scaled(patience)
	}
	s.t.Check(unix.SetNonblock(s.FD, on || s.waits == inPoll), "set O_NONBLOCK")
}

// Inq is FIONREAD.
func (s *Sock) Inq() Ret { return s.ioctl(unix.TIOCINQ) }

// Outq is SIOCOUTQ.
func (s *Sock) Outq() Ret { return s.ioctl(unix.TIOCOUTQ) }

// OutqUnsent is SIOCOUTQNSD.
func (s *Sock) OutqUnsent() Ret { return s.ioctl(0x894b) }

// AtMark is SIOCATMARK.
func (s *Sock) AtMark() Ret { return s.ioctl(0x8905) }

func (s *Sock) ioctl(request uintptr) Ret {
	var value int32
	r := Call(unix.SYS_IOCTL, uintptr(s.FD), request, keep(s.t, &value))
	if r.Errno == 0 {
		r.N = int(value)
	}
	return r
}

// Set is setsockopt(2) of a number.
func (s *Sock) Set(level, option, value int) Ret {
	v := int32(value)
	return s.SetRaw(level, option, unsafe.Pointer(&v), 4)
}

// SetRaw is setsockopt(2).
func (s *Sock) SetRaw(level, option int, value unsafe.Pointer, size uintptr) Ret {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.FD), uintptr(level), uintptr(option),
		uintptr(value), size, 0)
	return Ret{Errno: errno}
}

// Get is getsockopt(2) of a number.
func (s *Sock) Get(level, option int) Ret {
	v, err := unix.GetsockoptInt(s.FD, level, option)
	if err != nil {
		return Ret{N: -1, Errno: err.(unix.Errno)}
	}
	return Ret{N: v}
}

// GetRaw is getsockopt(2) of size bytes.
func (s *Sock) GetRaw(level, option, size int) Ret {
	b := s.t.Buffer(size)
	length := uint32(size)
	r := Call(unix.SYS_GETSOCKOPT, uintptr(s.FD), uintptr(level), uintptr(option), Address(b),
		keep(s.t, &length))
	if r.Errno == 0 {
		r.N = int(length)
	}
	return received(r, b)
}
