// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

// A Listener listens at the server.
type Listener struct {
	*Sock
	Port   uint16
	Target netip.AddrPort // address to which the client connects
}

// domain is the address family of the place.
func (t *T) domain() int {
	if t.Place.Addr(place.Server).Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// Socket makes a TCP socket at side. Protocol 0 is plain TCP.
func (t *T) Socket(side place.Side, protocol int) *Sock {
	s, err := t.TrySocket(side, protocol)
	t.Check(err, "make socket")
	return s
}

// TrySocket is Socket for protocols that a kernel may lack.
func (t *T) TrySocket(side place.Side, protocol int) (*Sock, error) {
	fd, err := t.Place.Socket(side, t.domain(), unix.SOCK_STREAM|t.nonblock(), protocol)
	if err != nil {
		return nil, err
	}
	return t.own(fd), nil
}

// nonblock is the flag of socket(2) and accept4(2) for descriptors whose calls do
// not wait in the kernel.
func (t *T) nonblock() int {
	if t.waits == inPoll {
		return unix.SOCK_NONBLOCK
	}
	return 0
}

// Address is for bind(2) and connect(2).
func (t *T) Address(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// any is the unspecified address of the place's family.
func (t *T) any() netip.Addr {
	if t.domain() == unix.AF_INET6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// Listen listens on a port that the kernel chooses, after before was called with
// the new socket.
func (t *T) Listen(before ...func(*Sock)) *Listener {
	return t.ListenOn(t.Socket(place.Server, 0), before...)
}

// ListenOn is Listen with the caller's socket.
func (t *T) ListenOn(s *Sock, before ...func(*Sock)) *Listener {
	for _, f := range before {
		f(s)
	}
	l := t.bind(s)
	t.Check(unix.Listen(s.FD, 16), "listen")
	return l
}

// Closed returns a port without a listener. No listener can use it while the case runs.
func (t *T) Closed() *Listener { return t.bind(t.Socket(place.Server, 0)) }

func (t *T) bind(s *Sock) *Listener {
	t.Check(unix.Bind(s.FD, t.Address(netip.AddrPortFrom(t.any(), 0))), "bind")
	l := &Listener{Sock: s, Port: s.Local().Port()}
	var err error
	l.Target, err = t.Place.Target(l.Port)
	t.Check(err, "find out where to connect")
	return l
}

// Dial connects to the listener, after before was called with the new socket.
func (t *T) Dial(l *Listener, before ...func(*Sock)) *Sock {
	s := t.Socket(place.Client, 0)
	for _, f := range before {
		f(s)
	}
	t.Check(s.Connect(l.Target), "connect")
	return s
}

// Connect is connect(2). On a non-blocking socket poll(2) waits, and SO_ERROR has the result.
func (s *Sock) Connect(to netip.AddrPort) error {
	err := unix.Connect(s.FD, s.t.Address(to))
	if err != unix.EINPROGRESS || s.waits != inPoll {
		return err
	}
	if errno := s.pollUntil(time.Now(), unix.POLLOUT); errno != 0 {
		return err
	}
	if r := s.Get(unix.SOL_SOCKET, unix.SO_ERROR); r.N != 0 {
		return unix.Errno(r.N)
	}
	return nil
}

// Accept is accept4(2). It fails the run if there is no connection.
func (l *Listener) Accept() *Sock {
	s, r := l.TryAccept(unix.SOCK_CLOEXEC)
	if s == nil {
		l.t.Fail("accept: %s", r)
	}
	return s
}

// TryAccept is accept4(2).
func (l *Listener) TryAccept(flags int) (*Sock, Ret) {
	r := l.receive(0, unix.SYS_ACCEPT4, 0, 0, uintptr(flags|l.t.nonblock()))
	if r.Errno != 0 {
		return nil, r
	}
	return l.t.own(r.N), r
}

// Connection makes one more pair. Nagle's algorithm is off, because otherwise the arrival of the second of
// two small messages would depend on time.
func (t *T) Connection() (client, server *Sock) {
	l := t.Listen()
	client = t.Dial(l)
	server = l.Accept()
	l.Close()
	for _, s := range []*Sock{client, server} {
		s.Set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	return client, server
}

// Local is getsockname(2).
func (s *Sock) Local() netip.AddrPort {
	sa, err := unix.Getsockname(s.FD)
	s.t.Check(err, "getsockname")
	return addrPort(sa)
}

// Remote is getpeername(2).
func (s *Sock) Remote() (netip.AddrPort, error) {
	sa, err := unix.Getpeername(s.FD)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return addrPort(sa), nil
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// warmUp exchanges a few bytes both ways, all read when it returns.
func (t *T) warmUp(c, s *Sock) {
	for range 3 {
		for _, way := range [][2]*Sock{{c, s}, {s, c}} {
			if r := way[0].Send("warm up", 0); r.N != 7 {
				t.Fail("warm up: send: %s", r)
			}
			if b, r := way[1].ReadFull(7); len(b) != 7 {
				t.Fail("warm up: recv: %s", r)
			}
		}
	}
}

// WarmUp is what the runner does with a pair that is not Fresh.
func (t *T) WarmUp(c, s *Sock) { t.warmUp(c, s) }
