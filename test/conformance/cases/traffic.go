// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// traffic has streams of all shapes, every byte of which is compared.
func traffic() []Case {
	return []Case{
		{Name: "traffic/ping-pong-1-to-256-kib", AlsoBlocking: true, Bulk: true, Run: func(t *T) {
			pingPong(t, 1, 3, 64, 1000, 1448, 4096, 16<<10, 65483, 100_000, 256<<10)
		}},
		{Name: "traffic/ping-pong-fresh", Fresh: true, Bulk: true, Run: func(t *T) {
			pingPong(t, 1, 100, 1000, 64<<10, 10, 256<<10)
		}},
		{Name: "traffic/many-round-trips", AlsoBlocking: true, Run: func(t *T) {
			for range 500 {
				t.C.Send("ping", 0)
				if got, r := t.S.ReadFull(4); len(got) != 4 {
					t.See("recv", r)
					return
				}
				t.S.Send("pong", 0)
				if got, r := t.C.ReadFull(4); len(got) != 4 {
					t.See("recv", r)
					return
				}
			}
			t.See("round trips", 500)
		}},
		{Name: "traffic/pipelined", Run: func(t *T) {
			sent := pattern(64*200, 70)
			w := suite.Go(t, func() (r suite.Ret) {
				for i := 0; i < len(sent); i += 64 {
					if r = t.C.WriteAll(sent[i : i+64]); r.Errno != 0 {
						return r
					}
				}
				return r
			})
			e := suite.Go(t, func() string {
				for left := len(sent); left > 0; {
					r := t.S.Recv(1000, 0)
					if r.N <= 0 {
						return r.String()
					}
					t.S.WriteAll(r.Data)
					left -= r.N
				}
				return "done"
			})
			t.Receive("echo", t.C, len(sent))
			t.See("send", w.Wait())
			t.See("server", e.Wait())
		}},
		{Name: "traffic/one-byte-flood", Run: func(t *T) {
			sent := pattern(20000, 71)
			w := suite.Go(t, func() (r suite.Ret) {
				for i := range sent {
					if r = t.C.SendBytes(sent[i:i+1], 0); r.Errno != 0 {
						return r
					}
				}
				return r
			})
			t.Receive("received", t.S, len(sent))
			t.See("send", w.Wait())
		}},
	}
}

// streams has streams in one direction, or in both at once.
func streams() []Case {
	return []Case{
		stream("traffic/ten-megabytes-to-server", false, 10<<20, 64<<10),
		stream("traffic/ten-megabytes-to-client", true, 10<<20, 64<<10),
		stream("traffic/odd-sizes", false, 3<<20, 7919),
		stream("traffic/small-pieces", false, 512<<10, 100),
		{Name: "traffic/both-ways-at-once", AlsoBlocking: true, Bulk: true, Run: func(t *T) { bothWays(t, 6<<20) }},
		{Name: "traffic/both-ways-fresh", AlsoBlocking: true, Fresh: true, Run: func(t *T) { bothWays(t, 6<<20) }},
		{Name: "traffic/both-ways-event-loop", EventLoop: true, Fresh: true, Bulk: true,
			Run: func(t *T) { bothWays(t, 6<<20) }},
		{Name: "traffic/mixed-sizes-and-pauses", Bulk: true, Run: mixed},
		{Name: "traffic/slow-reader", AlsoBlocking: true, Run: slowReader},
		{Name: "traffic/reader-starts-late", Run: func(t *T) {
			sent := pattern(20<<20, 72)
			w := suite.Go(t, func() suite.Ret { return writeMixed(t, t.C, sent) })
			t.Rest(150 * time.Millisecond)
			t.Receive("received", t.S, len(sent))
			t.See("send", w.Wait())
		}},
		{Name: "traffic/lowat-on-and-off", Yields: "SO_RCVLOWAT", Run: lowatOnAndOff},
		{Name: "traffic/first-bytes-unread", Fresh: true, Run: func(t *T) {
			// Order at the beginning: some bytes wait before the first read.
			var sent []byte
			for i := range 50 {
				b := pattern(17*i+1, uint64(i))
				t.C.WriteAll(b)
				sent = append(sent, b...)
			}
			t.Pause()
			got, _ := t.S.ReadFull(len(sent) / 2)
			for i := range 50 {
				b := pattern(13*i+1, uint64(100+i))
				t.C.WriteAll(b)
				sent = append(sent, b...)
			}
			rest, _ := t.S.ReadFull(len(sent) - len(got))
			t.Stream("received", append(got, rest...))
		}},
	}
}

// pingPong sends messages of these sizes there and back.
func pingPong(t *T, sizes ...int) {
	for i, n := range sizes {
		there, back := pattern(n, uint64(i)), pattern(n, uint64(1000+i))
		for _, way := range []struct {
			name     string
			from, to *Sock
			b        []byte
		}{{"there", t.C, t.S, there}, {"back", t.S, t.C, back}} {
			w := suite.Go(t, func() suite.Ret { return way.from.WriteAll(way.b) })
			t.Receive(way.name, way.to, n)
			t.See("send", w.Wait())
		}
	}
}

// stream sends in one direction, in pieces.
func stream(name string, toClient bool, size, piece int) Case {
	return Case{Name: name, Bulk: true, AlsoBlocking: toClient, Run: func(t *T) {
		from, to := t.C, t.S
		if toClient {
			from, to = to, from
		}
		sent := pattern(size, uint64(size+piece))
		w := suite.Go(t, func() (r suite.Ret) {
			for b := sent; len(b) > 0; b = b[min(piece, len(b)):] {
				if r = from.WriteAll(b[:min(piece, len(b))]); r.Errno != 0 {
					return r
				}
			}
			from.Shutdown(unix.SHUT_WR)
			return suite.Ret{}
		})
		got, last := to.ReadAll()
		t.Stream("received", got)
		t.See("end", last)
		t.See("send", w.Wait())
	}}
}

// bothWays has both ends send size bytes and receive at the same time: neither may wait for the other for
// ever.
func bothWays(t *T, size int) {
	there, back := pattern(size, 73), pattern(size, 74)
	w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(there) })
	wb := suite.Go(t, func() suite.Ret { return t.S.WriteAll(back) })
	r := suite.Go(t, func() string { return readOrQuit(t.C, len(back)) })
	t.Received("there", readOrQuit(t.S, len(there)))
	t.Received("back", r.Wait())
	t.See("send there", w.Wait())
	t.See("send back", wb.Wait())
}

// readOrQuit reads n bytes. After an error it shuts the connection down, as a program does, so that the other
// end does not wait for it. Before that it reads the bytes that have arrived: with a window of zero the other
// end would not send, and so would not notice the shutdown.
func readOrQuit(s *Sock, n int) string {
	text := s.ReadText(n)
	if strings.Contains(text, ", then ") {
		s.Shutdown(unix.SHUT_RDWR)
		s.ReadAll()
	}
	return text
}

// mixed sends and reads in random sizes with pauses, the same in each run.
func mixed(t *T) {
	sent := pattern(2<<20, 75)
	w := suite.Go(t, func() suite.Ret {
		rng := rand.New(rand.NewPCG(1, 2))
		for b := sent; len(b) > 0; {
			n := min(1+rng.IntN(1<<rng.IntN(17)), len(b))
			if r := t.C.WriteAll(b[:n]); r.Errno != 0 {
				return r
			}
			if b = b[n:]; rng.IntN(20) == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		return suite.Ret{}
	})
	rng := rand.New(rand.NewPCG(3, 4))
	var got []byte
	for len(got) < len(sent) {
		r := t.S.Recv(1+rng.IntN(1<<rng.IntN(17)), 0)
		if r.N <= 0 {
			t.See("recv", r)
			break
		}
		if got = append(got, r.Data...); rng.IntN(50) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	t.Stream("received", got)
	t.See("send", w.Wait())
}

// slowReader lets the backlog grow over every bound and become empty again.
func slowReader(t *T) {
	sent := pattern(24<<20, 76)
	w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(sent) })
	var got []byte
	for len(got) < len(sent) {
		t.Rest(20 * time.Millisecond)
		b, last := t.S.ReadFull(min(3<<20, len(sent)-len(got)))
		got = append(got, b...)
		if last.Errno != 0 || last.N == 0 {
			t.See("recv", last)
			break
		}
	}
	t.Stream("received", got)
	t.See("send", w.Wait())
}

// lowatOnAndOff makes a direction change between redirect and TCP during a continuous stream.
func lowatOnAndOff(t *T) {
	sent := pattern(4<<20, 77)
	w := suite.Go(t, func() suite.Ret { return writeMixed(t, t.C, sent) })
	var got []byte
	for i := 0; len(got) < len(sent); i++ {
		if i%16 == 0 {
			t.S.Set(unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1+i/16%2)
		}
		r := t.S.Recv(min(20_000, len(sent)-len(got)), 0)
		if r.N <= 0 {
			t.See("recv", r)
			break
		}
		got = append(got, r.Data...)
	}
	t.Stream("received", got)
	t.See("send", w.Wait())
}
