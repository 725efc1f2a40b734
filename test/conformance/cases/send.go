// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// sending has cases of each sending call.
func sending() []Case {
	return []Case{
		{Name: "send/write", AlsoBlocking: true, Run: func(t *T) {
			t.See("write", t.C.Write([]byte("hello")))
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "send/writev", Run: func(t *T) {
			t.See("writev", t.C.Writev("abcdefgh", 3, 0, 5))
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "send/sendmsg", Run: func(t *T) {
			t.See("sendmsg", t.C.Sendmsg("abcdefgh", 0, 1, 7))
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "send/sendmmsg", Run: func(t *T) {
			t.See("sendmmsg", t.C.Sendmmsg(0, "ab", "cde", "f"))
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "send/to-an-address", Run: func(t *T) {
			to := t.Address(netip.AddrPortFrom(t.Place.Addr(place.Server), 9))
			t.See("sendto", suite.Errno(unix.Sendto(t.C.FD, []byte("hello"), unix.MSG_NOSIGNAL, to)))
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "send/empty", Idle: "nothing is sent", Run: func(t *T) {
			t.See("send", t.C.Send("", 0))
			t.See("write", t.C.Write(nil))
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "send/end-of-record", Run: func(t *T) {
			t.See("send", t.C.Send("hello", unix.MSG_EOR))
			t.C.Send("world", 0)
			t.Pause()
			t.See("recvmsg", t.S.Recvmsg(0, 0, 16))
		}},
		{Name: "send/dontwait", Run: func(t *T) {
			t.See("send", t.C.Send("hello", dontwait))
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
		}},
	}
}

// sendingOddly has cases at the limits of sending.
func sendingOddly() []Case {
	return []Case{
		{Name: "send/bad-address", Idle: "nothing is sent", Run: func(t *T) {
			t.See("send", t.C.SendAt(1, 16, 0))
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "send/partly-bad-address", Run: func(t *T) {
			page := unix.Getpagesize()
			two, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			t.Check(err, "map memory")
			defer func() { _ = unix.Munmap(two) }()
			t.Check(unix.Mprotect(two[page:], unix.PROT_NONE), "protect memory")
			r := t.C.SendAt(suite.Address(two[page-8:]), 16, 0)
			t.See("all or nothing", r.N == 8 || r.N < 0)
			t.C.Send("hello", 0)
			t.Pause()
			got := t.S.Recv(64, dontwait)
			t.See("later data", string(got.Data[max(len(got.Data)-5, 0):]))
			t.See("as many as accepted", got.N-5 == max(r.N, 0))
		}},
		{Name: "send/unconnected", Alone: true, Idle: "nothing is sent", Run: func(t *T) {
			s := t.Socket(place.Client, 0)
			t.See("send", s.Send("hello", 0))
			t.See("recv", s.Recv(16, dontwait))
		}},
		{Name: "send/four-megabytes", AlsoBlocking: true, Bulk: true, Run: func(t *T) {
			sent := pattern(4<<20, 6)
			r := suite.Go(t, func() string { return t.S.ReadText(len(sent)) })
			// One call if it waits in the kernel, otherwise as many as needed.
			t.See("send", t.C.WriteAll(sent))
			t.Received("received", r.Wait())
		}},
		{Name: "send/writev-many", AlsoBlocking: true, Run: func(t *T) {
			sizes := make([]int, 1024)
			for i := range sizes {
				sizes[i] = i % 7
			}
			n := 0
			for _, s := range sizes {
				n += s
			}
			sent := string(pattern(n, 7))
			t.See("writev", t.C.Writev(sent, sizes...))
			t.Receive("received", t.S, n)
		}},
	}
}

// holding has cases of features that hold small segments back.
func holding() []Case {
	return []Case{
		{Name: "hold/more-then-rest", Run: func(t *T) {
			t.See("send", t.C.Send("abc", more))
			t.See("send", t.C.Send("def", 0))
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "hold/more-alone", Serial: true, Run: func(t *T) {
			t.C.Send("abc", more)
			t.Pause()
			t.See("recv at once", t.S.Recv(16, dontwait))
			t.C.Send("def", 0)
			t.Pause()
			t.See("recv after the rest", t.S.Recv(16, dontwait))
		}},
		{Name: "hold/more-expires", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("abc", more)
			t.Receive("recv", t.S, 3)
		}},
		{Name: "hold/cork", Serial: true, Run: func(t *T) {
			t.See("TCP_CORK", t.C.Set(unix.IPPROTO_TCP, unix.TCP_CORK, 1))
			t.C.Send("abc", 0)
			t.C.Send("def", 0)
			t.Pause()
			t.See("recv at once", t.S.Recv(16, dontwait))
			t.See("uncork", t.C.Set(unix.IPPROTO_TCP, unix.TCP_CORK, 0))
			t.Pause()
			t.See("recv after uncorking", t.S.Recv(16, dontwait))
		}},
		{Name: "hold/cork-stream", Run: func(t *T) {
			t.C.Set(unix.IPPROTO_TCP, unix.TCP_CORK, 1)
			for _, b := range []string{"HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n\r\n", "hello"} {
				t.C.Send(b, 0)
			}
			t.C.Set(unix.IPPROTO_TCP, unix.TCP_CORK, 0)
			t.Receive("received", t.S, 43)
		}},
		{Name: "hold/nagle", Run: func(t *T) {
			t.See("TCP_NODELAY", t.C.Set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 0))
			for range 3 {
				t.C.Send("abc", 0)
			}
			t.Receive("recv", t.S, 9)
		}},
		{Name: "hold/nodelay", Run: func(t *T) {
			t.See("TCP_NODELAY", t.C.Set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
			for range 3 {
				t.C.Send("abc", 0)
			}
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "hold/close-flushes-cork", Run: func(t *T) {
			t.C.Set(unix.IPPROTO_TCP, unix.TCP_CORK, 1)
			t.C.Send("abc", 0)
			t.C.Close()
			got, last := t.S.ReadAll()
			t.Stream("received", got)
			t.See("end", last)
		}},
	}
}

// stopping has cases of a writer whose reader does not read.
func stopping() []Case {
	return []Case{
		{Name: "backpressure/nonblocking", Run: func(t *T) {
			sent := fill(t, t.C)
			t.See("bounded", magnitude(len(sent)))
			t.See("poll", t.C.Poll(unix.POLLOUT, 0))
			got, _ := t.S.ReadFull(len(sent))
			t.See("all received", suite.Text(got) == suite.Text(sent))
			t.See("poll after reading", t.C.Poll(unix.POLLOUT, time.Second))
		}},
		{Name: "backpressure/waiting-writer", AlsoBlocking: true, Run: func(t *T) {
			sent := pattern(16<<20, 8)
			w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(sent) })
			t.Rest(100 * time.Millisecond)
			t.See("returned although nobody reads", w.Done())
			t.Receive("received", t.S, len(sent))
			t.See("send", w.Wait())
		}},
		{Name: "backpressure/send-timeout", AlsoBlocking: true, Run: func(t *T) {
			t.C.Patience(100 * time.Millisecond)
			sent := pattern(32<<20, 9)
			r := t.C.SendBytes(sent, 0)
			t.See("some", r.N > 0 && r.N < len(sent))
			done := 0
			for ; r.N > 0 && done < len(sent); r = t.C.SendBytes(sent[done:], 0) {
				done += r.N
			}
			t.See("in the end", r)
			got, _ := t.S.ReadFull(done)
			t.See("all received", suite.Text(got) == suite.Text(sent[:done]))
		}},
		{Name: "backpressure/small-buffers", Alone: true, Run: func(t *T) {
			c, s := smallBuffers(t)
			sent := fill(t, c)
			t.See("bounded", magnitude(len(sent)))
			got, _ := s.ReadFull(len(sent))
			t.See("all received", suite.Text(got) == suite.Text(sent))
		}},
		{Name: "backpressure/small-buffers-stream", AlsoBlocking: true, Alone: true, Bulk: true, Run: func(t *T) {
			c, s := smallBuffers(t)
			sent := pattern(1<<20, 10)
			w := suite.Go(t, func() suite.Ret { return c.WriteAll(sent) })
			t.Receive("received", s, len(sent))
			t.See("send", w.Wait())
		}},
		{Name: "backpressure/epoll-edge", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.C, unix.EPOLLOUT|unix.EPOLLET)
			t.See("writable", e.Wait(0))
			sent := fill(t, t.C)
			t.See("full", e.Wait(0))
			got, _ := t.S.ReadFull(len(sent))
			t.See("all received", suite.Text(got) == suite.Text(sent))
			t.See("writable again", e.Wait(time.Second))
		}},
		{Name: "backpressure/notsent-lowat", Run: func(t *T) {
			t.See("TCP_NOTSENT_LOWAT", t.C.Set(unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 16<<10))
			sent := fill(t, t.C)
			t.See("poll", t.C.Poll(unix.POLLOUT, 0))
			got, _ := t.S.ReadFull(len(sent))
			t.See("all received", suite.Text(got) == suite.Text(sent))
			t.See("poll after reading", t.C.Poll(unix.POLLOUT, time.Second))
		}},
		{Name: "backpressure/tiny-messages", Run: func(t *T) {
			n := 0
			for ; n < 40000; n++ {
				if r := t.C.Send("x", dontwait); r.Errno != 0 {
					break
				}
			}
			t.See("some accepted", n > 100)
			got, _ := t.S.ReadFull(n)
			t.See("all received", len(got) == n)
		}},
	}
}

// smallBuffers makes a pair whose ends have the smallest possible buffers.
func smallBuffers(t *T) (c, s *Sock) {
	l := t.Listen(func(s *Sock) { s.Set(unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	c = t.Dial(l, func(s *Sock) { s.Set(unix.SOL_SOCKET, unix.SO_SNDBUF, 1) })
	s = l.Accept()
	t.WarmUp(c, s)
	return c, s
}

// magnitude is a class of sizes that are far enough apart for buffers that tune themselves.
func magnitude(n int) string {
	switch {
	case n < 256<<10:
		return "less than 256 KiB"
	case n < 32<<20:
		return "less than 32 MiB"
	default:
		return "unbounded"
	}
}
