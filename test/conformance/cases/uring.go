// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// ringed is a case with a ring. It ends early where the kernel has none. Cases that wait for data are
// Blocking: io_uring does not wait on a descriptor with O_NONBLOCK, so programs for it do not set that.
func ringed(c Case, run func(t *T, r *ring)) Case {
	c.Run = func(t *T) {
		if r := newRing(t); r != nil {
			run(t, r)
		}
	}
	return c
}

// io makes a submission of a buffer.
func (r *ring) io(op uint8, s *Sock, b []byte, flags uint32) sqe {
	return sqe{op: op, fd: int32(s.FD), address: uint64(suite.Address(b)), length: uint32(len(b)),
		opFlags: flags}
}

// bytesOf copies b to memory that the kernel can use.
func bytesOf(t *T, b string) []byte {
	buf := t.Buffer(len(b))
	copy(buf, b)
	return buf
}

// rings has cases in which io_uring does what system calls do.
func rings() []Case {
	return []Case{
		ringed(Case{Name: "uring/send"}, func(t *T, r *ring) {
			r.submit(r.io(opSend, t.C, bytesOf(t, "hello"), unix.MSG_NOSIGNAL))
			t.See("send", r.complete())
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}),
		ringed(Case{Name: "uring/write"}, func(t *T, r *ring) {
			r.submit(r.io(opWrite, t.C, bytesOf(t, "hello"), 0))
			t.See("write", r.complete())
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}),
		ringed(Case{Name: "uring/recv-after-data"}, func(t *T, r *ring) {
			t.C.Send("hello", 0)
			t.Pause()
			b := t.Buffer(16)
			r.submit(r.io(opRecv, t.S, b, 0))
			t.See("recv", r.complete())
			t.Stream("bytes", b[:5])
		}),
		ringed(Case{Name: "uring/recv-before-data", Blocking: true}, func(t *T, r *ring) {
			b := t.Buffer(16)
			r.submit(r.io(opRecv, t.S, b, 0))
			_, early := r.wait(30 * time.Millisecond)
			t.See("completed early", early)
			t.C.Send("hello", 0)
			t.See("recv", r.complete())
			t.Stream("bytes", b[:5])
		}),
		ringed(Case{Name: "uring/first-message", Blocking: true, Fresh: true}, func(t *T, r *ring) {
			b := t.Buffer(16)
			r.submit(r.io(opRecv, t.S, b, 0))
			t.Pause()
			t.C.Send("hello", 0)
			t.See("recv", r.complete())
			t.Stream("bytes", b[:5])
			t.C.Send("again", 0)
			r.submit(r.io(opRecv, t.S, b, 0))
			t.See("recv", r.complete())
			t.Stream("bytes", b[:5])
		}),
		ringed(Case{Name: "uring/read", Blocking: true}, func(t *T, r *ring) {
			b := t.Buffer(16)
			r.submit(r.io(opRead, t.S, b, 0))
			t.Pause()
			t.C.Send("hello", 0)
			t.See("read", r.complete())
			t.Stream("bytes", b[:5])
		}),
	}
}

// ringEnds has cases in which the data comes later.
func ringEnds() []Case {
	return []Case{
		ringed(Case{Name: "uring/recv-waitall", Blocking: true, Yields: "MSG_WAITALL"}, func(t *T, r *ring) {
			b := t.Buffer(6)
			r.submit(r.io(opRecv, t.S, b, waitall))
			t.C.Send("abc", 0)
			_, early := r.wait(50 * time.Millisecond)
			t.See("completed after half", early)
			if early {
				return
			}
			t.C.Send("def", 0)
			t.See("recv", r.complete())
			t.Stream("bytes", b)
		}),
		ringed(Case{Name: "uring/recv-end-of-stream", Blocking: true, Idle: "nothing is sent"},
			func(t *T, r *ring) {
				r.submit(r.io(opRecv, t.S, t.Buffer(16), 0))
				t.Pause()
				t.C.Shutdown(unix.SHUT_WR)
				t.See("recv", r.complete())
			}),
		ringed(Case{Name: "uring/recv-reset", Blocking: true, Idle: "nothing is sent"}, func(t *T, r *ring) {
			r.submit(r.io(opRecv, t.S, t.Buffer(16), 0))
			t.Pause()
			reset(t, t.C)
			t.See("recv", r.complete())
		}),
		ringed(Case{Name: "uring/poll"}, func(t *T, r *ring) {
			r.submit(sqe{op: opPollAdd, fd: int32(t.S.FD), opFlags: unix.POLLIN})
			_, early := r.wait(30 * time.Millisecond)
			t.See("completed early", early)
			t.C.Send("hello", 0)
			t.See("poll", r.events())
			t.See("recv", t.S.Recv(16, dontwait))
		}),
	}
}

// ringReceive has cases of features that only io_uring has.
func ringReceive() []Case {
	return []Case{
		ringed(Case{Name: "uring/recv-multishot", Blocking: true}, multishot),
		ringed(Case{Name: "uring/poll-multishot"}, func(t *T, r *ring) {
			const multi = 1
			r.submit(sqe{op: opPollAdd, fd: int32(t.S.FD), length: multi, opFlags: unix.POLLIN})
			for range 3 {
				t.C.Send("hello", 0)
				t.See("poll", r.events())
				t.See("recv", t.S.Recv(16, dontwait))
			}
		}),
		ringed(Case{Name: "uring/send-zerocopy"}, func(t *T, r *ring) {
			sent := string(pattern(32<<10, 20))
			r.submit(r.io(opSendZeroCopy, t.C, bytesOf(t, sent), unix.MSG_NOSIGNAL))
			first := r.complete()
			t.See("send", first)
			if first != "32768 more" {
				// The program then sends by copying.
				t.C.WriteAll([]byte(sent))
			}
			t.Receive("received", t.S, len(sent))
			if first == "32768 more" {
				t.See("notification", r.complete())
			}
		}),
		ringed(Case{Name: "uring/splice-from-socket"}, func(t *T, r *ring) {
			pr, pw := t.Pipe(0)
			t.C.Send("hello", 0)
			t.Pause()
			r.submit(sqe{
				op: opSplice, fd: int32(pw.FD), offset: ^uint64(0), address: ^uint64(0),
				length: 64, opFlags: spliceNonblock, spliceFD: int32(t.S.FD),
			})
			c, ok := r.wait(time.Second)
			t.See("splice", c.unless(!ok))
			t.Stream("all bytes", spliced(t, pr, int(c.result), 5))
		}),
		ringed(Case{Name: "uring/shutdown", Idle: "nothing is sent"}, func(t *T, r *ring) {
			r.submit(sqe{op: opShutdown, fd: int32(t.C.FD), length: unix.SHUT_WR})
			t.See("shutdown", r.complete())
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}),
		ringed(Case{Name: "uring/ping-pong", Blocking: true}, ringPingPong),
	}
}

// multishot receives many messages by one submission, into provided buffers.
func multishot(t *T, r *ring) {
	const size, count, group = 64, 8, 7
	buffers := t.Buffer(size * count)
	r.submit(sqe{
		op: opProvideBuffers, fd: count, address: uint64(suite.Address(buffers)), length: size, bufGroup: group,
	})
	if provided := r.complete(); provided != "0" {
		t.See("provide buffers", provided)
		return
	}
	r.submit(sqe{op: opRecv, flags: sqeBufferSelect, ioprio: recvMultishot, fd: int32(t.S.FD), bufGroup: group})
	var got []byte
	for _, m := range []string{"hello", "world", "again"} {
		t.C.Send(m, 0)
		c, ok := r.wait(time.Second)
		t.See("recv", c.unless(!ok))
		if c.flags&cqeBuffer != 0 && c.result > 0 {
			at := int(c.flags>>16) * size
			got = append(got, buffers[at:at+int(c.result)]...)
		}
		if c.flags&cqeMore == 0 {
			break
		}
	}
	t.Stream("received", got)
	t.C.Shutdown(unix.SHUT_WR)
	t.See("end", r.complete())
}

// ringPingPong sends one way and back, messages of many sizes.
func ringPingPong(t *T, r *ring) {
	b := t.Buffer(16 << 10)
	var got []byte
	for i := range 30 {
		from, to := t.C, t.S
		if i%2 == 1 {
			from, to = to, from
		}
		n := 1 << (i % 15)
		r.submit(r.io(opSend, from, bytesOf(t, string(pattern(n, uint64(i)))), unix.MSG_NOSIGNAL))
		if sent, ok := r.wait(time.Second); !ok || int(sent.result) != n {
			t.See("send", sent)
			return
		}
		for left := n; left > 0; {
			r.submit(r.io(opRecv, to, b[:left], 0))
			c, ok := r.wait(time.Second)
			if !ok || c.result <= 0 {
				t.See("recv", c)
				return
			}
			got = append(got, b[:c.result]...)
			left -= int(c.result)
		}
	}
	t.Stream("received", got)
}
