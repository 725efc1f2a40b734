// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// learns is why the first bytes of a connection use TCP where guards run.
const learns = "a direction that learns sends its first bytes over TCP"

// handshakes has cases about the beginning of connections.
func handshakes() []Case {
	return []Case{
		{Name: "connect/closed-port", AlsoBlocking: true, Alone: true, Idle: idle, Run: func(t *T) {
			t.See("connect", suite.Errno(t.Socket(place.Client, 0).Connect(t.Closed().Target)))
		}},
		{Name: "connect/nonblocking", Alone: true, Yields: learns, Run: func(t *T) {
			l := t.Listen()
			c := t.Socket(place.Client, 0)
			c.Nonblock(true)
			err := c.Connect(l.Target)
			t.See("connect", err == nil || err == unix.EINPROGRESS)
			t.See("poll", c.Poll(unix.POLLOUT, time.Second))
			t.See("SO_ERROR", suite.Errno(unix.Errno(c.Get(unix.SOL_SOCKET, unix.SO_ERROR).N)))
			s := l.Accept()
			c.Nonblock(false)
			t.WarmUp(c, s)
			c.Send("hello", 0)
			t.See("recv", s.Recv(16, 0))
		}},
		{Name: "connect/twice", AlsoBlocking: true, Run: func(t *T) {
			remote, err := t.C.Remote()
			t.Check(err, "getpeername")
			t.See("connect", suite.Errno(t.C.Connect(remote)))
			t.C.Send("hello", 0)
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "connect/data-before-accept", AlsoBlocking: true, Alone: true, Yields: learns, Run: func(t *T) {
			l := t.Listen()
			c := t.Dial(l)
			t.See("send", c.Send("early ", 0))
			t.See("send", c.Send("bird", 0))
			t.Pause()
			s := l.Accept()
			t.See("recv", s.Recv(64, 0))
			s.Send("worm", 0)
			t.See("recv", c.Recv(64, 0))
			c.Send("more", 0)
			t.See("recv", s.Recv(64, 0))
		}},
		{Name: "connect/close-before-accept", Alone: true, Yields: learns, Run: func(t *T) {
			l := t.Listen()
			c := t.Dial(l)
			c.Send("early", 0)
			c.Close()
			t.Pause()
			s := l.Accept()
			got, last := s.ReadAll()
			t.Stream("received", got)
			t.See("end", last)
		}},
		{Name: "connect/reset-before-accept", AlsoBlocking: true, Alone: true, Idle: idle, Run: func(t *T) {
			l := t.Listen()
			c := t.Dial(l)
			reset(t, c)
			t.Pause()
			t.See("recv", l.Accept().Recv(16, 0))
		}},
	}
}

// accepting has cases of accept4(2), and of many connections.
func accepting() []Case {
	return []Case{
		{Name: "connect/accept-flags", Alone: true, Run: func(t *T) {
			l := t.Listen()
			c := t.Dial(l)
			s, r := l.TryAccept(unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC)
			t.See("accept4", suite.Errno(r.Errno))
			flags, err := unix.FcntlInt(uintptr(s.FD), unix.F_GETFL, 0)
			t.Check(err, "F_GETFL")
			t.See("O_NONBLOCK", flags&unix.O_NONBLOCK != 0)
			flags, err = unix.FcntlInt(uintptr(s.FD), unix.F_GETFD, 0)
			t.Check(err, "F_GETFD")
			t.See("FD_CLOEXEC", flags&unix.FD_CLOEXEC != 0)
			s.Nonblock(true)
			t.See("recv", s.Recv(16, 0))
			c.Send("hello", 0)
			t.Pause()
			t.See("recv", s.Recv(16, 0))
		}},
		{Name: "connect/accept-wrong-flags", Alone: true, Idle: idle, Run: func(t *T) {
			_, r := t.Listen().TryAccept(1 << 20)
			t.See("accept4", r)
		}},
		{Name: "connect/accept-expires", AlsoBlocking: true, Alone: true, Idle: idle, Run: func(t *T) {
			l := t.Listen()
			l.Patience(100 * time.Millisecond)
			_, r := l.TryAccept(0)
			t.See("accept4", r)
		}},
		{Name: "connect/many-at-once", AlsoBlocking: true, Alone: true, Yields: learns, Run: func(t *T) {
			l := t.Listen()
			var clients []*Sock
			for i := range 12 {
				c := t.Dial(l)
				c.Send(fmt.Sprintf("client %02d", i), 0)
				clients = append(clients, c)
			}
			for i := range 12 {
				s := l.Accept()
				got, _ := s.ReadFull(9)
				t.See("recv", suite.Text(got))
				s.Send(fmt.Sprintf("server %02d", i), 0)
			}
			for _, c := range clients {
				got, _ := c.ReadFull(9)
				t.See("answer", suite.Text(got))
			}
		}},
		{Name: "connect/defer-accept", Alone: true, Run: deferAccept},
		{Name: "connect/to-itself", Alone: true, Idle: "one socket is no pair", Run: selfConnect},
		{Name: "connect/churn", AlsoBlocking: true, Alone: true, Yields: learns, Run: func(t *T) {
			l := t.Listen()
			for i := range 40 {
				c := t.Dial(l)
				c.Send(fmt.Sprintf("hello %d", i), 0)
				s := l.Accept()
				c.Shutdown(unix.SHUT_WR)
				got, _ := s.ReadAll()
				t.Stream("received", got)
				s.Send("bye", 0)
				s.Close()
				got, last := c.ReadAll()
				t.Stream("answer", got)
				t.See("end", last)
				c.Close()
			}
		}},
	}
}

// deferAccept is a listener whose child socket is made only when data arrives.
func deferAccept(t *T) {
	l := t.Listen(func(s *Sock) {
		t.See("TCP_DEFER_ACCEPT", s.Set(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 3))
	})
	c := t.Dial(l)
	t.See("before data", l.Poll(unix.POLLIN, 0))
	t.See("send", c.Send("first ", 0))
	t.See("with data", l.Poll(unix.POLLIN, time.Second))
	s := l.Accept()
	c.Send("second", 0)
	t.Receive("received", s, 12)
	s.Send("answer", 0)
	t.Receive("answer", c, 6)
	c.Send("third", 0)
	t.Receive("received", s, 5)
}

// selfConnect is a socket that is connected to itself.
func selfConnect(t *T) {
	s := t.Socket(place.Client, 0)
	own := netip.AddrPortFrom(t.Place.Addr(place.Client), 0)
	t.Check(unix.Bind(s.FD, t.Address(own)), "bind")
	t.See("connect", suite.Errno(s.Connect(s.Local())))
	t.See("send", s.Send("hello", 0))
	t.Pause()
	t.See("recv", s.Recv(16, 0))
	t.See("shutdown", s.Shutdown(unix.SHUT_WR))
	t.See("end", s.Recv(16, 0))
}

// fastOpen has cases with data in the SYN. Places allow that without cookies.
func fastOpen() []Case {
	open := func(s *Sock) { s.Set(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16) }
	after := func(t *T, c, s *Sock) {
		t.WarmUp(c, s)
		c.Send("later", 0)
		t.See("recv", s.Recv(64, 0))
		s.Send("answer", 0)
		t.See("recv", c.Recv(64, 0))
	}
	return []Case{
		{Name: "fastopen/sendto", AlsoBlocking: true, Alone: true, Run: func(t *T) {
			l := t.Listen(open)
			c := t.Socket(place.Client, 0)
			to := t.Address(l.Target)
			t.See("sendto", suite.Errno(unix.Sendto(c.FD, []byte("on the syn"), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL,
				to)))
			s := l.Accept()
			t.See("recv", s.Recv(64, 0))
			after(t, c, s)
		}},
		{Name: "fastopen/connect-option", Alone: true, Run: func(t *T) {
			l := t.Listen(open)
			c := t.Dial(l, func(s *Sock) {
				t.See("TCP_FASTOPEN_CONNECT", s.Set(unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1))
			})
			t.See("send", c.Send("on the syn", 0))
			s := l.Accept()
			t.See("recv", s.Recv(64, 0))
			after(t, c, s)
		}},
		{Name: "fastopen/server-answers-first", AlsoBlocking: true, Alone: true, Run: func(t *T) {
			l := t.Listen(open)
			c := t.Socket(place.Client, 0)
			t.Check(unix.Sendto(c.FD, []byte("request"), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, t.Address(l.Target)),
				"sendto")
			s := l.Accept()
			t.See("answer", s.Send("answer before reading", 0))
			t.See("recv", c.Recv(64, 0))
			t.See("recv", s.Recv(64, 0))
			after(t, c, s)
		}},
		{Name: "fastopen/connected", AlsoBlocking: true, Run: func(t *T) {
			// After a non-blocking connect(2), MSG_FASTOPEN counts for the next connection, which is not
			// refused yet.
			remote, err := t.C.Remote()
			t.Check(err, "getpeername")
			_ = t.C.Connect(remote)
			t.See("send", t.C.Send("hello", unix.MSG_FASTOPEN))
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
			t.C.Send("hello", 0)
			t.See("recv", t.S.Recv(16, 0))
		}},
	}
}

const protoMPTCP = 262

// multipath has cases of MPTCP, which Go's listeners use by default.
func multipath() []Case {
	try := func(t *T, client, server int) {
		ls, err := t.TrySocket(place.Server, server)
		t.See("listener", suite.Errno(err))
		if err != nil {
			return
		}
		l := t.ListenOn(ls)
		c, err := t.TrySocket(place.Client, client)
		t.See("client", suite.Errno(err))
		if err != nil {
			return
		}
		t.See("connect", suite.Errno(c.Connect(l.Target)))
		s := l.Accept()
		for i := range 3 {
			requests, answers := pattern(1000*(i+1), uint64(29+i)), pattern(2000*(i+1), uint64(39+i))
			c.WriteAll(requests)
			t.Receive("request", s, len(requests))
			s.WriteAll(answers)
			t.Receive("answer", c, len(answers))
		}
		c.Shutdown(unix.SHUT_WR)
		t.See("end", s.Recv(16, 0))
	}
	const left = "connections with MPTCP are left alone"
	return []Case{
		{Name: "mptcp/both", Alone: true, Idle: left, Run: func(t *T) { try(t, protoMPTCP, protoMPTCP) }},
		{Name: "mptcp/client", Alone: true, Idle: left, Run: func(t *T) { try(t, protoMPTCP, 0) }},
		{Name: "mptcp/listener", Alone: true, Idle: left, Run: func(t *T) { try(t, 0, protoMPTCP) }},
		{Name: "mptcp/bulk", Alone: true, Idle: left, Run: func(t *T) {
			ls, err := t.TrySocket(place.Server, protoMPTCP)
			t.See("listener", suite.Errno(err))
			if err != nil {
				return
			}
			l := t.ListenOn(ls)
			c := t.Dial(l)
			s := l.Accept()
			sent := pattern(1<<20, 49)
			w := suite.Go(t, func() suite.Ret { return c.WriteAll(sent) })
			t.Receive("received", s, len(sent))
			t.See("send", w.Wait())
		}},
	}
}

// tlsInfo is struct tls12_crypto_info_aes_gcm_128.
type tlsInfo struct {
	version, cipher uint16
	iv              [8]byte
	key             [16]byte
	salt            [4]byte
	sequence        [8]byte
}

// records has cases of kTLS. Kernels without it return the same error on both sides.
func records() []Case {
	const ulp, solTLS, tx, rx = 31, 282, 1, 2
	attach := func(t *T, s *Sock) bool {
		err := unix.SetsockoptString(s.FD, unix.IPPROTO_TCP, ulp, "tls")
		t.See("TCP_ULP", suite.Errno(err))
		return err == nil
	}
	keys := func(t *T, s *Sock, direction int) bool {
		info := tlsInfo{version: 0x0303, cipher: 51}
		r := s.SetRaw(solTLS, direction, unsafe.Pointer(&info), unsafe.Sizeof(info))
		t.See("keys", suite.Errno(r.Errno))
		return r.Errno == 0
	}
	exchange := func(t *T, c, s *Sock) {
		if !attach(t, c) || !attach(t, s) || !keys(t, c, tx) || !keys(t, s, rx) {
			// The program continues in user space.
			c.Send("user space", 0)
			t.Receive("received", s, 10)
			return
		}
		for _, m := range []string{"one", "two", "three"} {
			t.See("send", c.Send(m, 0))
			t.Pause()
			t.See("recv", s.Recv(64, 0))
		}
	}
	return []Case{
		{Name: "tls/before-data", Fresh: true, Yields: "TCP_ULP",
			Idle: "a socket with a protocol of its own stays on TCP", Run: func(t *T) {
				exchange(t, t.C, t.S)
			}},
		{Name: "tls/after-data", Yields: "TCP_ULP", Idle: "a socket with a protocol of its own stays on TCP",
			Run: func(t *T) {
				exchange(t, t.C, t.S)
			}},
		{Name: "tls/unknown-protocol", Run: func(t *T) {
			t.See("TCP_ULP", suite.Errno(unix.SetsockoptString(t.C.FD, unix.IPPROTO_TCP, ulp, "nosuchprotocol")))
			t.C.Send("hello", 0)
			t.See("recv", t.S.Recv(16, 0))
		}},
	}
}
