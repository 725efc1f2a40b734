// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

const inOut = unix.POLLIN | unix.POLLOUT | unix.POLLRDHUP

// eventLoops has new connections of programs that wait by epoll(7) from the beginning.
func eventLoops() []Case {
	return []Case{
		{Name: "loop/client-speaks-first", EventLoop: true, Fresh: true,
			Run: func(t *T) { requestAnswer(t, t.C, t.S) }},
		{Name: "loop/server-speaks-first", EventLoop: true, Fresh: true,
			Run: func(t *T) { requestAnswer(t, t.S, t.C) }},
	}
}

// polling has cases of poll(2), and of level-triggered epoll(7).
func polling() []Case {
	return []Case{
		{Name: "poll/idle", Idle: "nothing is sent", Run: func(t *T) {
			t.See("client", t.C.Poll(inOut, 0))
			t.See("server", t.S.Poll(inOut, 0))
		}},
		{Name: "poll/readable", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("before reading", t.S.Poll(inOut, 0))
			t.S.Recv(2, 0)
			t.See("after reading some", t.S.Poll(inOut, 0))
			t.S.Recv(16, 0)
			t.See("after reading all", t.S.Poll(inOut, 0))
		}},
		{Name: "poll/first-message", Fresh: true, Run: func(t *T) {
			r := suite.Go(t, func() string { return t.S.Poll(unix.POLLIN, time.Second) })
			t.See("returned early", r.Done())
			t.C.Send("hello", 0)
			t.See("poll", r.Wait())
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "poll/waits-for-data", Run: func(t *T) {
			r := suite.Go(t, func() string { return t.S.Poll(unix.POLLIN, time.Second) })
			t.See("returned early", r.Done())
			t.C.Send("hello", 0)
			t.See("poll", r.Wait())
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "poll/expires", Idle: "nothing is sent", Run: func(t *T) {
			t.See("poll", t.S.Poll(unix.POLLIN, 50*time.Millisecond))
		}},
		{Name: "poll/half-closed", Idle: "nothing is sent", Run: func(t *T) {
			t.C.Shutdown(unix.SHUT_WR)
			t.Pause()
			t.See("peer", t.S.Poll(inOut, 0))
			t.See("self", t.C.Poll(inOut, 0))
		}},
		{Name: "poll/half-closed-with-data", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.C.Shutdown(unix.SHUT_WR)
			t.Pause()
			t.See("before reading", t.S.Poll(inOut, 0))
			t.S.Recv(16, 0)
			t.See("after reading", t.S.Poll(inOut, 0))
		}},
		{Name: "poll/closed-both-ways", Idle: "nothing is sent", Run: func(t *T) {
			t.C.Shutdown(unix.SHUT_WR)
			t.S.Shutdown(unix.SHUT_WR)
			t.Pause()
			t.See("client", t.C.Poll(inOut, 0))
			t.See("server", t.S.Poll(inOut, 0))
		}},
	}
}

// pollingErrors has cases of poll(2) and level-triggered epoll(7) after the end.
func pollingErrors() []Case {
	return []Case{
		{Name: "poll/reset", Idle: "nothing is sent", Run: func(t *T) {
			reset(t, t.C)
			t.Pause()
			t.See("server", t.S.Poll(inOut, 0))
		}},
		{Name: "poll/reset-with-data", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			reset(t, t.C)
			t.Pause()
			t.See("server", t.S.Poll(inOut, 0))
			t.See("recv", t.S.Recv(16, 0))
			t.See("server after reading", t.S.Poll(inOut, 0))
		}},
		{Name: "poll/shut-for-reading", Idle: "nothing is sent", Run: func(t *T) {
			t.S.Shutdown(unix.SHUT_RD)
			t.See("server", t.S.Poll(inOut, 0))
		}},
		{Name: "epoll/level", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN)
			t.See("idle", e.Wait(0))
			t.C.Send("hello", 0)
			t.See("readable", e.Wait(time.Second))
			t.See("still", e.Wait(0))
			t.S.Recv(2, 0)
			t.See("after reading some", e.Wait(0))
			t.S.Recv(16, 0)
			t.See("after reading all", e.Wait(0))
		}},
		{Name: "epoll/added-with-data", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
			t.See("readable", e.Wait(0))
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "epoll/peer-half-closes", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLRDHUP)
			t.C.Send("hello", 0)
			t.Pause()
			t.See("data", e.Wait(0))
			t.C.Shutdown(unix.SHUT_WR)
			t.Pause()
			t.See("data and end", e.Wait(0))
			t.S.Recv(16, 0)
			t.See("end", e.Wait(0))
		}},
	}
}

// edges has cases of epoll(7) in which a missed event is not repeated.
func edges() []Case {
	return []Case{
		{Name: "epoll/edge", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
			t.C.Send("hello", 0)
			t.See("readable", e.Wait(time.Second))
			t.See("no second time", e.Wait(0))
			t.C.Send("world", 0)
			t.See("new data", e.Wait(time.Second))
			t.See("recv", t.S.Recv(16, dontwait))
			t.See("drained", e.Wait(0))
		}},
		{Name: "epoll/edge-partial-read", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
			t.C.Send("hello", 0)
			t.See("readable", e.Wait(time.Second))
			t.S.Recv(2, dontwait)
			t.See("rest is no event", e.Wait(0))
			t.C.Send("!", 0)
			t.See("new data", e.Wait(time.Second))
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "epoll/edge-many-messages", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
			for range 5 {
				t.C.Send("ab", 0)
			}
			t.Pause()
			t.See("readable", e.Wait(0))
			t.See("one event", e.Wait(0))
			t.See("recv", t.S.Recv(64, dontwait))
		}},
		{Name: "epoll/edge-writable", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.C, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLET)
			t.See("writable", e.Wait(0))
			t.C.Send("hello", 0)
			t.S.Recv(16, 0)
			t.S.Send("hello", 0)
			t.See("readable", e.Wait(time.Second))
			t.C.Recv(16, 0)
		}},
		{Name: "epoll/edge-until-eagain", Bulk: true, Run: edgeLoop},
		{Name: "epoll/edge-short-read-means-empty", Bulk: true, Run: edgeShortRead},
	}
}

// manyWaiters has the other cases of epoll(7).
func manyWaiters() []Case {
	return []Case{
		{Name: "epoll/oneshot", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLONESHOT)
			t.C.Send("hello", 0)
			t.See("readable", e.Wait(time.Second))
			t.C.Send("world", 0)
			t.Pause()
			t.See("disarmed", e.Wait(0))
			e.Mod(t.S, unix.EPOLLIN|unix.EPOLLONESHOT)
			t.See("armed again", e.Wait(0))
			t.See("recv", t.S.Recv(16, dontwait))
		}},
		{Name: "epoll/exclusive", Run: func(t *T) {
			e1, e2 := t.Epoll(), t.Epoll()
			e1.Add(t.S, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
			e2.Add(t.S, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
			t.C.Send("hello", 0)
			t.Pause()
			t.See("one", e1.Wait(0))
			t.See("other", e2.Wait(0))
			t.S.Recv(16, 0)
			t.See("drained", e1.Wait(0))
		}},
		{Name: "epoll/nested", Run: func(t *T) {
			inner, outer := t.Epoll(), t.Epoll()
			inner.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
			outer.Add(inner.Sock, unix.EPOLLIN)
			t.See("idle", outer.Wait(0))
			t.C.Send("hello", 0)
			t.See("outer", outer.Wait(time.Second))
			t.See("inner", inner.Wait(0))
			t.S.Recv(16, 0)
		}},
		{Name: "epoll/waiter-wakes", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
			for range 3 {
				r := suite.Go(t, func() string { return e.Wait(time.Second) })
				t.See("returned early", r.Done())
				t.C.Send("hello", 0)
				t.See("epoll", r.Wait())
				t.See("recv", t.S.Recv(16, dontwait))
			}
		}},
		{Name: "epoll/reset", Idle: "nothing is sent", Run: func(t *T) {
			e := t.Epoll()
			e.Add(t.S, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET)
			reset(t, t.C)
			t.See("events", e.Wait(time.Second))
		}},
	}
}

// edgeLoop reads until EAGAIN after each event, as event loops do.
func edgeLoop(t *T) {
	sent := pattern(2<<20, 13)
	t.S.Nonblock(true)
	e := t.Epoll()
	e.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
	w := suite.Go(t, func() suite.Ret { return writeMixed(t, t.C, sent) })
	var got []byte
	for len(got) < len(sent) {
		if ev := e.Wait(2 * time.Second); ev == "nothing" {
			t.See("events", "blocks")
			break
		}
		for {
			r := t.S.Read(9000)
			if r.N <= 0 {
				break
			}
			got = append(got, r.Data...)
		}
	}
	t.Stream("received", got)
	t.See("send", w.Wait())
}

// edgeShortRead treats a read that does not fill the buffer as the last one, as nginx does without FIONREAD.
func edgeShortRead(t *T) {
	sent := pattern(1<<20, 14)
	t.S.Nonblock(true)
	e := t.Epoll()
	e.Add(t.S, unix.EPOLLIN|unix.EPOLLET)
	w := suite.Go(t, func() suite.Ret { return writeMixed(t, t.C, sent) })
	var got []byte
	for len(got) < len(sent) {
		if ev := e.Wait(2 * time.Second); ev == "nothing" {
			t.See("events", "blocks")
			break
		}
		for {
			r := t.S.Read(9000)
			got = append(got, r.Data...)
			if r.N < 9000 {
				break
			}
		}
	}
	t.Stream("received", got)
	t.See("send", w.Wait())
}

// writeMixed sends in pieces of many sizes.
func writeMixed(t *T, s *Sock, b []byte) (r suite.Ret) {
	for n := 1; len(b) > 0; n = n*5%70001 + 1 {
		piece := min(n, len(b))
		if r = s.WriteAll(b[:piece]); r.Errno != 0 {
			return r
		}
		b = b[piece:]
	}
	return suite.Ret{}
}

func selecting() []Case {
	return []Case{
		{Name: "select/readable", Run: func(t *T) {
			t.See("idle", t.S.Select(0))
			t.C.Send("hello", 0)
			t.Pause()
			t.See("with data", t.S.Select(0))
			t.S.Recv(16, 0)
			t.See("drained", t.S.Select(0))
		}},
		{Name: "select/urgent", Yields: "MSG_OOB", Run: func(t *T) {
			t.C.Send("!", oob)
			t.Pause()
			t.See("with urgent data", t.S.Select(0))
			t.S.Recv(1, oob|dontwait)
		}},
		{Name: "select/end-of-stream", Idle: "nothing is sent", Run: func(t *T) {
			t.C.Shutdown(unix.SHUT_WR)
			t.Pause()
			t.See("at the end", t.S.Select(0))
		}},
	}
}
