// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

const soPeekOff = 42

func peeking() []Case {
	return []Case{
		{Name: "peek/then-read", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("peek", t.S.Recv(16, peek))
			t.See("peek again", t.S.Recv(2, peek))
			t.See("recv", t.S.Recv(16, 0))
			t.See("peek at nothing", suite.Errno(t.S.Recv(16, peek|dontwait).Errno))
		}},
		{Name: "peek/across-messages", Run: func(t *T) {
			t.C.Send("hello ", 0)
			t.C.Send("world", 0)
			t.Pause()
			t.See("peek", t.S.Recv(64, peek))
			t.See("recv", t.S.Recv(64, 0))
		}},
		{Name: "peek/after-partial-read", Run: func(t *T) {
			t.C.Send("abcdef", 0)
			t.C.Send("ghi", 0)
			t.Pause()
			t.See("recv", t.S.Recv(4, 0))
			t.See("peek", t.S.Recv(64, peek))
			t.See("recv", t.S.Recv(64, 0))
		}},
		{Name: "peek/waits", AlsoBlocking: true, Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, peek) })
			t.See("returned early", r.Done())
			t.C.Send("hello", 0)
			t.See("peek", r.Wait())
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "peek/recvmsg-scattered", Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.Pause()
			t.See("peek", t.S.Recvmsg(peek, 0, 2, 3))
			t.See("recvmsg", t.S.Recvmsg(0, 0, 2, 30))
		}},
		{Name: "peek/at-end-of-stream", Idle: "nothing is sent", Run: func(t *T) {
			t.C.Shutdown(unix.SHUT_WR)
			t.Pause()
			t.See("peek", t.S.Recv(16, peek))
			t.See("recv", t.S.Recv(16, 0))
		}},
	}
}

// peekingOddly has cases of MSG_PEEK combined with other features.
func peekingOddly() []Case {
	return []Case{
		{Name: "peek/waitall", AlsoAtOnce: true, Yields: "MSG_WAITALL", Run: func(t *T) {
			t.S.WaitInKernel()
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(6, peek|waitall) })
			t.C.Send("abc", 0)
			t.See("returned after half", r.Done())
			t.C.Send("def", 0)
			t.See("peek", r.Wait())
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "peek/offset", Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.Pause()
			t.See("SO_PEEK_OFF", t.S.Set(unix.SOL_SOCKET, soPeekOff, 2))
			t.See("peek", t.S.Recv(3, peek))
			t.See("peek on", t.S.Recv(3, peek))
			t.See("offset", t.S.Get(unix.SOL_SOCKET, soPeekOff))
			t.See("recv", t.S.Recv(64, 0))
		}},
		{Name: "peek/offset" + suite.AtOnce, Fresh: true, Idle: "the verdict leaves it to TCP", Run: func(t *T) {
			t.See("SO_PEEK_OFF", t.S.Set(unix.SOL_SOCKET, soPeekOff, 0))
			for _, m := range []string{"abcd", "efgh"} {
				t.C.Send(m, 0)
				t.Pause()
				t.See("peek", t.S.Recv(3, peek))
			}
			t.See("offset", t.S.Get(unix.SOL_SOCKET, soPeekOff))
			t.See("recv", t.S.Recv(4, 0))
			t.See("peek on", t.S.Recv(64, peek))
			t.See("recv", t.S.Recv(64, 0))
		}},
		{Name: "peek/exactly-before-close", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.C.Close()
			t.Pause()
			t.See("peek", t.S.Recv(16, peek))
			t.See("recv", t.S.Recv(16, 0))
			t.See("end", t.S.Recv(16, 0))
		}},
	}
}

func truncating() []Case {
	return []Case{
		{Name: "trunc/discard", AlsoAtOnce: true, Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.Pause()
			b := t.S.RecvNull(5, trunc)
			t.See("recv of a null buffer", b)
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "trunc/buffer-too-small", AlsoAtOnce: true, Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.Pause()
			b := t.S.Recv(3, trunc)
			t.See("bytes", b.N)
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "trunc/more-than-there-is", AlsoAtOnce: true, Run: func(t *T) {
			t.C.Send("abc", 0)
			t.Pause()
			t.See("recv of a null buffer", t.S.RecvNull(64, trunc))
			t.See("recv", suite.Errno(t.S.Recv(16, dontwait).Errno))
		}},
		{Name: "trunc/peek", Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.Pause()
			t.See("bytes", t.S.Recv(3, peek|trunc).N)
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "trunc/recvmsg-flag", Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.Pause()
			t.See("recvmsg", t.S.Recvmsg(0, 0, 3))
			t.See("recvmsg", t.S.Recvmsg(0, 0, 16))
		}},
	}
}

// recvAll has cases of recv(2) with MSG_WAITALL, which has an effect only where calls wait in the kernel.
func recvAll(t *T, n int) *suite.Task[suite.Ret] {
	t.S.WaitInKernel()
	return suite.Go(t, func() suite.Ret { return t.S.Recv(n, waitall) })
}

func waitingForAll() []Case {
	const yields = "MSG_WAITALL"
	return []Case{
		{Name: "waitall/before-data", AlsoBlocking: true, AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			r := recvAll(t, 6)
			t.See("returned early", r.Done())
			t.C.Send("abc", 0)
			t.See("returned after half", r.Done())
			t.C.Send("def", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "waitall/amid-data", AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			t.C.Send("abc", 0)
			t.Pause()
			r := recvAll(t, 6)
			t.See("returned after half", r.Done())
			t.C.Send("def", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "waitall/after-data", AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			t.C.Send("abc", 0)
			t.C.Send("def", 0)
			t.Pause()
			t.See("recv", recvAll(t, 6).Wait())
		}},
		{Name: "waitall/end-of-stream", AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			r := recvAll(t, 6)
			t.C.Send("abc", 0)
			t.See("returned after half", r.Done())
			t.C.Shutdown(unix.SHUT_WR)
			t.See("recv", r.Wait())
			t.See("end", t.S.Recv(6, waitall))
		}},
	}
}

// waitingForMore has cases of MSG_WAITALL combined with other features.
func waitingForMore() []Case {
	const yields = "MSG_WAITALL"
	return []Case{
		{Name: "waitall/exact-then-rest", AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			r := recvAll(t, 4)
			t.Pause()
			t.C.Send("abcdef", 0)
			t.See("recv", r.Wait())
			t.See("rest", t.S.Recv(16, dontwait))
		}},
		{Name: "waitall/timeout", AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			t.S.Patience(150 * time.Millisecond)
			r := recvAll(t, 6)
			t.Pause()
			t.C.Send("abc", 0)
			t.See("recv", r.Wait())
			t.See("recv of nothing", t.S.Recv(6, waitall))
		}},
		{Name: "waitall/dontwait", AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			t.C.Send("abc", 0)
			t.Pause()
			t.See("recv", t.S.Recv(6, waitall|dontwait))
			t.See("empty", suite.Errno(t.S.Recv(6, waitall|dontwait).Errno))
		}},
		{Name: "waitall/large", AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			sent := pattern(300<<10, 2)
			w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(sent) })
			r := recvAll(t, len(sent)).Wait()
			t.See("recv", r)
			if r.N < len(sent) {
				t.S.ReadFull(len(sent) - max(r.N, 0))
			}
			t.See("send", w.Wait())
		}},
		{Name: "waitall/recvmsg", AlsoAtOnce: true, Yields: yields, Run: func(t *T) {
			t.S.WaitInKernel()
			r := suite.Go(t, func() suite.Message { return t.S.Recvmsg(waitall, 0, 2, 4) })
			t.C.Send("abc", 0)
			t.See("returned after half", r.Done())
			t.C.Send("def", 0)
			t.See("recvmsg", r.Wait())
		}},
		{Name: "waitall/header-then-body", AlsoBlocking: true, AlsoAtOnce: true, Yields: yields,
			Run: headerThenBody},
	}
}

// headerThenBody has cases that read as length-prefixed protocols do.
func headerThenBody(t *T) {
	t.S.WaitInKernel()
	w := suite.Go(t, func() suite.Ret {
		for i := range 20 {
			body := pattern(100*i+1, uint64(i))
			t.C.Send(string([]byte{byte(len(body) >> 8), byte(len(body))}), 0)
			t.C.SendBytes(body[:len(body)/2], 0)
			t.Rest(time.Millisecond)
			if r := t.C.SendBytes(body[len(body)/2:], 0); r.Errno != 0 {
				return r
			}
		}
		return suite.Ret{}
	})
	var got []byte
	ended := ""
	for i := 0; i < 20 && ended == ""; i++ {
		head := t.S.Recv(2, waitall)
		if head.N != 2 {
			ended = ", then header " + head.String()
			break
		}
		n := int(head.Data[0])<<8 | int(head.Data[1])
		body := t.S.Recv(n, waitall)
		got = append(got, body.Data...)
		if body.N != n {
			ended = ", then a body too short"
		}
	}
	t.Received("bodies", suite.Text(got)+ended)
	t.See("send", w.Wait())
}

func timeouts() []Case {
	return []Case{
		{Name: "timeout/recv-expires", AlsoBlocking: true, Idle: "nothing is sent", Run: func(t *T) {
			t.S.Patience(100 * time.Millisecond)
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "timeout/recv-expires-then-data", AlsoBlocking: true, Run: func(t *T) {
			t.S.Patience(100 * time.Millisecond)
			t.See("recv", t.S.Recv(16, 0))
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "timeout/data-in-time", AlsoBlocking: true, Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.C.Send("hello", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "timeout/round-trip", Blocking: true, Idle: "nothing is sent", Run: func(t *T) {
			t.S.Patience(1500 * time.Millisecond)
			tv, err := unix.GetsockoptTimeval(t.S.FD, unix.SOL_SOCKET, unix.SO_RCVTIMEO)
			t.See("SO_RCVTIMEO", suite.Errno(err))
			t.See("stored", time.Duration(tv.Nano()) >= t.Scaled(1490*time.Millisecond))
		}},
	}
}

// watermarks is SO_RCVLOWAT.
func watermarks() []Case {
	lowat := func(t *T, n int) { t.See("SO_RCVLOWAT", t.S.Set(unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)) }
	const yields = "SO_RCVLOWAT"
	return []Case{
		{Name: "lowat/recv", Blocking: true, Yields: yields, Idle: "the verdict leaves it to TCP", Run: func(t *T) {
			lowat(t, 6)
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(64, 0) })
			t.C.Send("abc", 0)
			t.See("returned after half", r.Done())
			t.C.Send("def", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "lowat/poll", AlsoBlocking: true, Yields: yields, Idle: "the verdict leaves it to TCP",
			Run: func(t *T) {
				lowat(t, 6)
				t.C.Send("abc", 0)
				t.Pause()
				t.See("poll of half", t.S.Poll(unix.POLLIN, 0))
				t.C.Send("def", 0)
				t.Pause()
				t.See("poll", t.S.Poll(unix.POLLIN, time.Second))
				t.See("recv", t.S.Recv(64, 0))
			}},
		{Name: "lowat/epoll", Yields: yields, Idle: "the verdict leaves it to TCP", Run: func(t *T) {
			lowat(t, 6)
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
			t.C.Send("abc", 0)
			t.Pause()
			t.See("epoll of half", e.Wait(0))
			t.C.Send("def", 0)
			t.See("epoll", e.Wait(time.Second))
			t.See("recv", t.S.Recv(64, 0))
		}},
		{Name: "lowat/end-of-stream", Blocking: true, Yields: yields, Idle: "the verdict leaves it to TCP",
			Run: func(t *T) {
				lowat(t, 6)
				r := suite.Go(t, func() suite.Ret { return t.S.Recv(64, 0) })
				t.C.Send("abc", 0)
				t.See("returned after half", r.Done())
				t.C.Shutdown(unix.SHUT_WR)
				t.See("recv", r.Wait())
			}},
		{Name: "lowat/set-after-data", Run: func(t *T) {
			t.C.Send("abc", 0)
			t.Pause()
			lowat(t, 6)
			t.See("poll of half", t.S.Poll(unix.POLLIN, 0))
			t.C.Send("def", 0)
			t.Pause()
			t.See("poll", t.S.Poll(unix.POLLIN, time.Second))
			t.See("recv", t.S.Recv(64, 0))
			t.See("rest", t.S.Recv(64, dontwait))
		}},
		{Name: "lowat/set-and-unset", Yields: yields, Run: func(t *T) {
			lowat(t, 6)
			t.C.Send("abcdef", 0)
			t.Pause()
			t.See("recv", t.S.Recv(64, 0))
			lowat(t, 1)
			t.C.Send("ghi", 0)
			t.Pause()
			t.See("recv", t.S.Recv(64, 0))
			t.C.Send("jkl", 0)
			t.Pause()
			t.See("recv", t.S.Recv(64, 0))
		}},
	}
}
