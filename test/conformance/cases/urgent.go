// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// urgent has cases of TCP's urgent byte. Guards see MSG_OOB and move the flow to TCP.
func urgent() []Case {
	const yields = "MSG_OOB"
	return []Case{
		{Name: "oob/none", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			t.See("recv", t.S.Recv(1, oob))
		}},
		{Name: "oob/out-of-band", Yields: yields, Run: func(t *T) {
			t.See("send", t.C.Send("ab!", oob))
			t.Pause()
			t.See("at mark", t.S.AtMark())
			t.See("recv", t.S.Recv(16, dontwait))
			t.See("at mark", t.S.AtMark())
			t.See("urgent", t.S.Recv(16, oob|dontwait))
			t.See("urgent again", t.S.Recv(16, oob|dontwait))
		}},
		{Name: "oob/amid-data", Yields: yields, Run: func(t *T) {
			t.C.Send("ab", 0)
			t.C.Send("!", oob)
			t.C.Send("cd", 0)
			t.Pause()
			t.See("recv to the mark", t.S.Recv(16, dontwait))
			t.See("urgent", t.S.Recv(1, oob|dontwait))
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "oob/in-line", Yields: yields, Run: func(t *T) {
			t.See("SO_OOBINLINE", t.S.Set(unix.SOL_SOCKET, unix.SO_OOBINLINE, 1))
			t.C.Send("ab", 0)
			t.C.Send("!", oob)
			t.Pause()
			t.See("recv to the mark", t.S.Recv(16, dontwait))
			t.See("at mark", t.S.AtMark())
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "oob/poll", Yields: yields, Run: func(t *T) {
			t.See("before", t.S.Poll(unix.POLLPRI, 0))
			t.C.Send("!", oob)
			t.Pause()
			t.See("after", t.S.Poll(unix.POLLPRI|unix.POLLIN, 0))
			t.See("urgent", t.S.Recv(1, oob|dontwait))
			t.See("after reading", t.S.Poll(unix.POLLPRI, 0))
		}},
		{Name: "oob/peek", Yields: yields, Run: func(t *T) {
			t.C.Send("!", oob)
			t.Pause()
			t.See("peek", t.S.Recv(1, oob|peek|dontwait))
			t.See("urgent", t.S.Recv(1, oob|dontwait))
		}},
		{Name: "oob/then-plain-data", Yields: yields, Run: func(t *T) {
			t.C.Send("!", oob)
			t.Pause()
			t.S.Recv(1, oob|dontwait)
			t.S.Recv(16, dontwait)
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
		}},
	}
}

func errorQueue() []Case {
	return []Case{
		{Name: "errqueue/empty", Idle: "nothing is sent", Run: func(t *T) {
			t.See("recvmsg", t.S.Recvmsg(unix.MSG_ERRQUEUE, 256, 16))
		}},
		{Name: "errqueue/empty-with-data", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recvmsg", t.S.Recvmsg(unix.MSG_ERRQUEUE, 256, 16))
			t.See("recvmsg, peeking", t.S.Recvmsg(unix.MSG_ERRQUEUE|peek, 256, 16))
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "errqueue/sender", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recvmsg", t.C.Recvmsg(unix.MSG_ERRQUEUE, 256, 16))
			t.See("recv", t.S.Recv(16, 0))
		}},
	}
}

// counting has cases of FIONREAD, SIOCOUTQ and SIOCOUTQNSD.
func counting() []Case {
	return []Case{
		{Name: "fionread/empty", Idle: "nothing is sent", Run: func(t *T) {
			t.See("FIONREAD", t.S.Inq())
		}},
		{Name: "fionread/first-message", Fresh: true, Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("FIONREAD", t.S.Inq())
			t.See("recv", t.S.Recv(16, dontwait))
			t.See("FIONREAD after", t.S.Inq())
		}},
		{Name: "fionread/one-message", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("FIONREAD", t.S.Inq())
			t.See("recv", t.S.Recv(16, dontwait))
			t.See("FIONREAD after", t.S.Inq())
		}},
		{Name: "fionread/many-messages", Run: func(t *T) {
			for range 10 {
				t.C.Send("0123456789", 0)
			}
			t.Pause()
			t.See("FIONREAD", t.S.Inq())
			t.S.ReadFull(100)
		}},
		{Name: "fionread/after-partial-read", Run: func(t *T) {
			t.C.Send("0123456789", 0)
			t.C.Send("abc", 0)
			t.Pause()
			t.S.Recv(4, 0)
			t.See("FIONREAD", t.S.Inq())
			t.S.Recv(7, 0)
			t.See("FIONREAD", t.S.Inq())
			t.S.ReadFull(2)
		}},
		{Name: "fionread/after-peek", Run: func(t *T) {
			t.C.Send("0123456789", 0)
			t.Pause()
			t.S.Recv(4, peek)
			t.See("FIONREAD", t.S.Inq())
			t.S.ReadFull(10)
		}},
		{Name: "fionread/end-of-stream", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.C.Shutdown(unix.SHUT_WR)
			t.Pause()
			t.See("FIONREAD", t.S.Inq())
			t.S.Recv(16, 0)
			t.See("FIONREAD at the end", t.S.Inq())
		}},
	}
}

// countingMore has harder cases of FIONREAD, SIOCOUTQ and SIOCOUTQNSD.
func countingMore() []Case {
	return []Case{
		{Name: "fionread/peer-closed", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.C.Close()
			t.Pause()
			t.See("FIONREAD", t.S.Inq())
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "fionread/bytes-by-tcp", Idle: "SO_RCVLOWAT keeps them on TCP", Yields: "SO_RCVLOWAT",
			Run: func(t *T) {
				t.S.Set(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 2)
				t.C.Send("0123456789", 0)
				t.Pause()
				t.See("FIONREAD", t.S.Inq())
				t.S.ReadFull(4)
				t.See("FIONREAD", t.S.Inq())
				t.S.ReadFull(6)
			}},
		{Name: "fionread/large", Run: func(t *T) {
			sent := pattern(40<<10, 3)
			t.C.WriteAll(sent)
			t.Pause()
			t.See("FIONREAD", t.S.Inq())
			t.Receive("received", t.S, len(sent))
		}},
		{Name: "fionread/sizes-the-read", Run: sizeReads},
		{Name: "outq/reader-keeps-up", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.S.ReadFull(5)
			t.See("SIOCOUTQ gets empty", t.Eventually(func() bool { return t.C.Outq().N == 0 }))
			t.See("SIOCOUTQNSD", t.C.OutqUnsent())
		}},
		{Name: "outq/stopped-reader", Run: func(t *T) {
			fill(t, t.C)
			t.See("SIOCOUTQ", t.C.Outq().N > 0)
			t.See("SIOCOUTQNSD", t.C.OutqUnsent().N > 0)
			drain(t, t.S)
			t.See("SIOCOUTQ gets empty", t.Eventually(func() bool { return t.C.Outq().N == 0 }))
		}},
	}
}

// sizeReads allocates as many bytes as FIONREAD returns, as JVMs and .NET do.
func sizeReads(t *T) {
	sent := pattern(5000, 4)
	w := suite.Go(t, func() suite.Ret {
		for i := 0; i < len(sent); i += 500 {
			if r := t.C.WriteAll(sent[i : i+500]); r.Errno != 0 {
				return r
			}
			t.Rest(time.Millisecond)
		}
		return suite.Ret{}
	})
	var got []byte
	ended := ""
	for len(got) < len(sent) && t.S.Poll(unix.POLLIN, time.Second) == "IN" {
		n := t.S.Inq().N
		if n == 0 {
			ended = ", then blocks: readable, and nothing to read"
			break
		}
		got = append(got, t.S.Recv(n, 0).Data...)
	}
	t.Received("received", suite.Text(got)+ended)
	t.See("send", w.Wait())
	t.S.ReadFull(len(sent) - len(got))
}

// fill sends until the call would block, and returns the bytes that were sent.
func fill(t *T, s *Sock) (sent []byte) {
	chunk := pattern(32<<10, 5)
	for range 4096 {
		r := s.SendBytes(chunk, dontwait)
		if r.Errno != 0 {
			if r.Errno == unix.EAGAIN && s.Poll(unix.POLLOUT, 50*time.Millisecond) != "nothing" {
				continue
			}
			t.See("full", suite.Errno(r.Errno))
			return sent
		}
		sent = append(sent, chunk[:r.N]...)
	}
	t.See("full", "never")
	return sent
}

// drain reads until no bytes come for a while.
func drain(t *T, s *Sock) (got []byte) {
	buf := 256 << 10
	for s.Poll(unix.POLLIN, 150*time.Millisecond) != "nothing" {
		r := s.Recv(buf, dontwait)
		if r.N <= 0 && r.Errno != unix.EAGAIN {
			break
		}
		got = append(got, r.Data...)
	}
	return got
}
