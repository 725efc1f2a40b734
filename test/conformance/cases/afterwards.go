// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// ways in which a reader stops reading. The cases are in the family "gone".
var ways = []struct {
	name string
	stop func(t *T, s *Sock)
	open bool // the reader's descriptor still exists
}{
	{"shutdown-reading", func(_ *T, s *Sock) { s.Shutdown(unix.SHUT_RD) }, true},
	{"shutdown-writing", func(_ *T, s *Sock) { s.Shutdown(unix.SHUT_WR) }, true},
	{"shutdown-both", func(_ *T, s *Sock) { s.Shutdown(unix.SHUT_RDWR) }, true},
	{"close", func(_ *T, s *Sock) { s.Close() }, false},
	{"close-linger-0", reset, false},
}

// afterwards has cases about the sender after its reader has stopped reading: with all bytes read before, and
// with bytes unread.
func afterwards() (all []Case) {
	for _, way := range ways {
		for _, unread := range []bool{false, true} {
			name := "gone/" + way.name
			if unread {
				name += "-unread"
			}
			all = append(all,
				Case{Name: name, Run: func(t *T) { sendsToTheGone(t, way.stop, way.open, unread) }},
				Case{Name: name + "-signal", Run: func(t *T) {
					stopReading(t, way.stop, unread)
					t.See("writes", child(t, place.Client, []*Sock{t.C}, "pipe").Output())
				}},
			)
		}
	}
	return all
}

func stopReading(t *T, stop func(*T, *Sock), unread bool) {
	t.C.Send("read", 0)
	t.See("recv", t.S.Recv(4, 0))
	if unread {
		t.C.Send("unread", 0)
	}
	t.Pause()
	stop(t, t.S)
	t.Pause()
}

// sendsToTheGone sends a few times after the reader has stopped, with enough time for a reply of TCP after
// each.
func sendsToTheGone(t *T, stop func(*T, *Sock), open, unread bool) {
	stopReading(t, stop, unread)
	taken := 0
	for i := range 5 {
		r := t.C.SendBytes(pattern(1000, uint64(i)), 0)
		t.See("send", r)
		taken += max(r.N, 0)
		t.Pause()
	}
	t.See("bytes taken", taken)
	if open {
		t.S.Patience(200 * time.Millisecond)
		got, last := t.S.ReadFull(10_000)
		t.Stream("received", got)
		t.See("then", last)
	}
	t.C.Patience(200 * time.Millisecond)
	t.See("sender's recv", t.C.Recv(16, 0))
	t.See("SO_ERROR", suite.Errno(unix.Errno(t.C.Get(unix.SOL_SOCKET, unix.SO_ERROR).N)))
}

// disconnecting has cases of connect(2) to AF_UNSPEC with unread bytes, and of the socket's next connection.
func disconnecting() []Case {
	nothing := func(*T, *Sock, *Sock) {}
	peerCloses := func(t *T, _, s *Sock) { s.Close(); t.Pause() }
	over := func(t *T, c, s *Sock) { s.Close(); t.Pause(); c.Shutdown(unix.SHUT_WR); t.Pause() }
	return []Case{
		{Name: "disconnect/unread", Alone: true, Run: func(t *T) { disconnectUnread(t, nothing, true) }},
		{Name: "disconnect/unread-peer-closed", Alone: true,
			Run: func(t *T) { disconnectUnread(t, peerCloses, true) }},
		{Name: "disconnect/unread-after-shutdown", Alone: true, Run: func(t *T) {
			disconnectUnread(t, func(t *T, c, _ *Sock) { c.Shutdown(unix.SHUT_WR); t.Pause() }, true)
		}},
		{Name: "disconnect/unread-after-reset", Alone: true, Run: func(t *T) {
			disconnectUnread(t, func(t *T, _, s *Sock) { reset(t, s); t.Pause() }, false)
		}},
		{Name: "disconnect/unread-after-the-end", Alone: true,
			Run: func(t *T) { disconnectUnread(t, over, false) }},
		{Name: "disconnect/recv-after-the-end", Alone: true, Run: func(t *T) { disconnectUnread(t, over, true) }},
	}
}

func disconnectUnread(t *T, end func(t *T, c, s *Sock), recv bool) {
	l := t.Listen()
	c := t.Dial(l)
	s := l.Accept()
	t.WarmUp(c, s)
	s.Send("of the first connection", 0)
	t.Pause()
	end(t, c, s)
	t.See("disconnect", suite.Errno(disconnect(t, c)))
	if recv {
		t.See("poll", c.Poll(inOut, 0))
		t.See("recv", c.Recv(8, dontwait))
		t.See("recv again", c.Recv(8, dontwait))
	}
	t.See("connect", suite.Errno(c.Connect(l.Target)))
	s = l.Accept()
	s.Send("of the second", 0)
	t.See("first recv", c.Recv(100, 0))
	t.WarmUp(c, s)
}

// beforeEstablished is a receive call that begins during the handshake: the listener's queue is full, so that
// the first SYN is dropped, and the next comes a second later.
func beforeEstablished() []Case {
	return []Case{{Name: "connect/recv-before-established", Blocking: true, Alone: true, Yields: learns,
		Run: func(t *T) {
			l := t.Listen()
			t.Check(unix.Listen(l.FD, 0), "listen")
			first := t.Dial(l)
			c := t.Socket(place.Client, 0)
			c.Nonblock(true)
			t.See("connect", suite.Errno(unix.Connect(c.FD, t.Address(l.Target))))
			c.Nonblock(false)
			c.Patience(5 * time.Second)
			r := suite.Go(t, func() suite.Ret { return c.Recv(16, 0) })
			t.See("returned early", r.Done())
			l.Accept()
			first.Close()
			s := l.Accept()
			s.Send("greeting", 0)
			t.See("recv", r.Wait())
			t.WarmUp(c, s)
		}}}
}
