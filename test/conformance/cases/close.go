// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// reset closes a socket so that the peer gets a RST.
func reset(t *T, s *Sock) {
	t.Check(unix.SetsockoptLinger(s.FD, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		"set SO_LINGER")
	s.Close()
}

// halfClosing is shutdown(2).
func halfClosing() []Case {
	return []Case{
		{Name: "shutdown/client-then-answer", AlsoBlocking: true, Run: func(t *T) { requestAnswer(t, t.C, t.S) }},
		{Name: "shutdown/server-then-answer", AlsoBlocking: true, Run: func(t *T) { requestAnswer(t, t.S, t.C) }},
		{Name: "shutdown/first-message-then-answer", AlsoBlocking: true, Fresh: true,
			Run: func(t *T) { requestAnswer(t, t.C, t.S) }},
		{Name: "shutdown/answer-comes-late", AlsoBlocking: true, Run: func(t *T) {
			// The acknowledgement of the FIN after the request wakes the receive call that waits for the
			// answer.
			t.C.Send("request", 0)
			t.C.Shutdown(unix.SHUT_WR)
			r := suite.Go(t, func() suite.Ret { return t.C.Recv(16, 0) })
			t.Rest(150 * time.Millisecond)
			got, _ := t.S.ReadAll()
			t.Stream("request", got)
			t.S.Send("answer", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "shutdown/data-then-end", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("hello", 0)
			t.C.Shutdown(unix.SHUT_WR)
			t.Pause()
			t.See("recv", t.S.Recv(2, 0))
			t.See("recv", t.S.Recv(16, 0))
			t.See("end", t.S.Recv(16, 0))
			t.See("end again", t.S.Recv(16, 0))
		}},
		{Name: "shutdown/wakes-reader", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.C.Shutdown(unix.SHUT_WR)
			t.See("recv", r.Wait())
		}},
		{Name: "shutdown/send-after", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.See("shutdown", t.C.Shutdown(unix.SHUT_WR))
			t.See("send", t.C.Send("more", 0))
			t.See("shutdown again", t.C.Shutdown(unix.SHUT_WR))
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
			t.See("end", t.S.Recv(16, 0))
		}},
	}
}

// shuttingDown has cases of shutdown(2): of reading, of both directions, and at unusual moments.
func shuttingDown() []Case {
	return []Case{
		{Name: "shutdown/reading-empty", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			t.See("shutdown", t.S.Shutdown(unix.SHUT_RD))
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "shutdown/reading-with-data", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.S.Shutdown(unix.SHUT_RD)
			t.See("recv", t.S.Recv(16, 0))
			t.See("recv at the end", t.S.Recv(16, 0))
		}},
		{Name: "shutdown/reading-then-data", AlsoBlocking: true, Run: func(t *T) {
			t.S.Shutdown(unix.SHUT_RD)
			t.See("send", t.C.Send("hello", 0))
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
			t.See("recv at the end", t.S.Recv(16, 0))
			t.See("other way", t.S.Send("hi", 0))
			t.See("recv", t.C.Recv(16, 0))
		}},
		{Name: "shutdown/reading-wakes-own-reader", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.S.Shutdown(unix.SHUT_RD)
			t.See("recv", r.Wait())
		}},
		{Name: "shutdown/both-wakes-own-reader", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.S.Shutdown(unix.SHUT_RDWR)
			t.See("recv", r.Wait())
		}},
		{Name: "shutdown/both", Idle: "nothing is sent", Run: func(t *T) {
			t.See("shutdown", t.C.Shutdown(unix.SHUT_RDWR))
			t.See("recv", t.C.Recv(16, 0))
			t.See("send", t.C.Send("hello", 0))
			t.Pause()
			t.See("peer", t.S.Recv(16, 0))
		}},
		{Name: "shutdown/ends-waiting-writer", AlsoBlocking: true, Run: func(t *T) {
			sent := pattern(16<<20, 21)
			w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(sent) })
			t.Rest(100 * time.Millisecond)
			t.C.Shutdown(unix.SHUT_WR)
			t.See("send", w.Wait())
		}},
		{Name: "shutdown/wrong-argument", Idle: "nothing is sent", Run: func(t *T) {
			t.See("shutdown", t.C.Shutdown(7))
		}},
	}
}

// requestAnswer ends the request with the end of the stream. The answer comes after that.
func requestAnswer(t *T, asks, answers *Sock) {
	t.See("request", asks.Send("request", 0))
	t.See("shutdown", asks.Shutdown(unix.SHUT_WR))
	got, last := answers.ReadAll()
	t.Stream("received", got)
	t.See("end", last)
	t.See("answer", answers.Send("answer one", 0))
	t.See("answer", answers.Send(" and two", 0))
	answers.Close()
	got, last = asks.ReadAll()
	t.Stream("answer received", got)
	t.See("end", last)
}

// closing has cases of close(2) without unread data or a reset.
func closing() []Case {
	return []Case{
		{Name: "close/after-data", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.C.Close()
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
			t.See("end", t.S.Recv(16, 0))
		}},
		{Name: "close/right-after-connecting", AlsoBlocking: true, Alone: true, Yields: learns, Run: func(t *T) {
			l := t.Listen()
			c := t.Dial(l)
			c.Send("hello", 0)
			c.Close()
			s := l.Accept()
			got, last := s.ReadAll()
			t.Stream("received", got)
			t.See("end", last)
		}},
		{Name: "close/wakes-reader", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.C.Close()
			t.See("recv", r.Wait())
		}},
		{Name: "close/large-unread-by-peer", AlsoBlocking: true, Bulk: true, Run: func(t *T) {
			sent := pattern(1<<20, 22)
			w := suite.Go(t, func() suite.Ret {
				defer t.C.Close()
				return t.C.WriteAll(sent)
			})
			t.Rest(50 * time.Millisecond)
			got, last := t.S.ReadAll()
			t.Stream("received", got)
			t.See("end", last)
			t.See("send", w.Wait())
		}},
		{Name: "close/both-at-once", Run: func(t *T) {
			t.C.Send("from client", 0)
			t.S.Send("from server", 0)
			t.C.Shutdown(unix.SHUT_WR)
			t.S.Shutdown(unix.SHUT_WR)
			t.Pause()
			got, last := t.S.ReadAll()
			t.Stream("at server", got)
			t.See("end", last)
			got, last = t.C.ReadAll()
			t.Stream("at client", got)
			t.See("end", last)
		}},
	}
}

// closingUnder has cases of close(2) while another thread or process uses the connection.
func closingUnder() []Case {
	return []Case{
		{Name: "close/then-peer-sends", Idle: "the connection is not established any more", Run: func(t *T) {
			t.C.Close()
			t.Pause()
			t.See("first send", t.S.Send("hello", 0))
			t.Pause()
			t.See("second send", t.S.Send("hello", 0))
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "close/linger", Run: func(t *T) {
			linger := unix.Linger{Onoff: 1, Linger: 1}
			t.Check(unix.SetsockoptLinger(t.C.FD, unix.SOL_SOCKET, unix.SO_LINGER, &linger), "set SO_LINGER")
			t.C.Send("hello", 0)
			start := time.Now()
			t.C.Close()
			t.See("returned at once", time.Since(start) < t.Scaled(500*time.Millisecond))
			got, last := t.S.ReadAll()
			t.Stream("received", got)
			t.See("end", last)
		}},
		{Name: "close/descriptor-under-reader", Blocking: true, Run: func(t *T) {
			// The call holds a reference to the open file, so closing the descriptor changes nothing.
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.S.Close()
			t.See("returned by close", r.Done())
			t.C.Send("hello", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "close/disconnect-and-connect-again", Alone: true, Run: reconnect},
	}
}

// reconnect uses one socket for two connections in turn.
func reconnect(t *T) {
	l := t.Listen()
	c := t.Dial(l)
	s := l.Accept()
	t.WarmUp(c, s)
	t.See("disconnect", suite.Errno(disconnect(t, c)))
	t.See("peer", s.Recv(16, 0))
	t.See("send", c.Send("hello", 0))
	t.See("connect", suite.Errno(c.Connect(l.Target)))
	s = l.Accept()
	t.WarmUp(c, s)
	c.Send("hello", 0)
	t.Pause()
	t.See("recv", s.Recv(16, 0))
}

// disconnect is connect(2) to AF_UNSPEC.
func disconnect(t *T, s *Sock) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	r := suite.Call(unix.SYS_CONNECT, uintptr(s.FD), suite.Keep(t, &sa), unix.SizeofSockaddrInet4)
	if r.Errno != 0 {
		return r.Errno
	}
	return nil
}

// resetting has cases in which one end resets the connection.
func resetting() []Case {
	return []Case{
		{Name: "reset/idle", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			reset(t, t.C)
			t.Pause()
			t.See("SO_ERROR", suite.Errno(unix.Errno(t.S.Get(unix.SOL_SOCKET, unix.SO_ERROR).N)))
			t.See("recv", t.S.Recv(16, 0))
			t.See("send", t.S.Send("hello", 0))
		}},
		{Name: "reset/recv-and-send", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			reset(t, t.C)
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
			t.See("recv again", t.S.Recv(16, 0))
			t.See("send", t.S.Send("hello", 0))
			t.See("send again", t.S.Send("hello", 0))
		}},
		{Name: "reset/send-first", Idle: "nothing is sent", Run: func(t *T) {
			reset(t, t.C)
			t.Pause()
			t.See("send", t.S.Send("hello", 0))
			t.See("send again", t.S.Send("hello", 0))
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "reset/under-reader", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			reset(t, t.C)
			t.See("recv", r.Wait())
			t.See("recv again", t.S.Recv(16, 0))
		}},
		{Name: "reset/with-data-in-queue", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			reset(t, t.C)
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
			t.See("recv again", t.S.Recv(16, 0))
			t.See("recv at last", t.S.Recv(16, 0))
		}},
		{Name: "reset/under-waiting-writer", AlsoBlocking: true, Run: func(t *T) {
			sent := pattern(16<<20, 23)
			w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(sent) })
			t.Rest(100 * time.Millisecond)
			reset(t, t.S)
			t.See("send", w.Wait())
			t.See("send again", t.C.Send("hello", 0))
		}},
	}
}

// erring has cases of close(2) with unread data, to which TCP reacts with a RST.
func erring() []Case {
	return []Case{
		{Name: "unread/peer-receives", Run: func(t *T) {
			t.C.Send("never read", 0)
			t.Pause()
			t.S.Close()
			t.Pause()
			t.See("recv", t.C.Recv(16, 0))
			t.See("recv again", t.C.Recv(16, 0))
		}},
		{Name: "unread/peer-sends", Run: func(t *T) {
			t.C.Send("never read", 0)
			t.Pause()
			t.S.Close()
			t.Pause()
			var errs []string
			for range 3 {
				errs = append(errs, t.C.Send("hello", 0).String())
				t.Pause()
			}
			t.See("fails in the end", errs[2] != "5")
			t.See("sends", errs)
		}},
		{Name: "unread/answer-arrives", Run: func(t *T) {
			// It sends an answer, then closes without reading the rest of the request.
			t.C.Send("a request that is too long", 0)
			t.Pause()
			t.S.Send("413", 0)
			t.S.Close()
			t.Pause()
			t.See("recv", t.C.Recv(16, 0))
			t.See("recv again", t.C.Recv(16, 0))
		}},
		{Name: "unread/under-reader", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("never read", 0)
			r := suite.Go(t, func() suite.Ret { return t.C.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.S.Close()
			t.See("recv", r.Wait())
		}},
		{Name: "unread/poll", Run: func(t *T) {
			t.C.Send("never read", 0)
			t.Pause()
			t.S.Close()
			t.Pause()
			t.See("poll", t.C.Poll(inOut, 0))
			t.See("SO_ERROR", suite.Errno(unix.Errno(t.C.Get(unix.SOL_SOCKET, unix.SO_ERROR).N)))
		}},
	}
}
