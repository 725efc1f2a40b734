// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

const spliceNonblock = 2

// splice is splice(2) without offsets. A refusal is not an error of the program: all programs fall back to
// reading and writing.
func splice(in, out *Sock, n, flags int) suite.Ret {
	move := func() suite.Ret {
		return suite.Call(unix.SYS_SPLICE, uintptr(in.FD), 0, uintptr(out.FD), 0, uintptr(n), uintptr(flags))
	}
	if flags&spliceNonblock != 0 {
		return move()
	}
	// One of the two is a pipe, which waits in the kernel.
	return in.Await(unix.POLLIN, func() suite.Ret { return out.Await(unix.POLLOUT, move) })
}

// splicing has cases of splice(2) from a socket.
func splicing() []Case {
	return []Case{
		{Name: "splice/after-data", Run: func(t *T) {
			r, w := t.Pipe(0)
			t.C.Send("hello", 0)
			t.Pause()
			moved := splice(t.S, w, 64, spliceNonblock)
			t.See("splice", moved)
			t.Stream("all bytes", spliced(t, r, moved.N, 5))
		}},
		{Name: "splice/before-data", AlsoBlocking: true, Run: func(t *T) {
			r, w := t.Pipe(0)
			task := suite.Go(t, func() suite.Ret { return splice(t.S, w, 64, 0) })
			t.See("returned early", task.Done())
			t.C.Send("hello", 0)
			moved := task.Wait()
			t.See("splice", moved)
			t.Stream("all bytes", spliced(t, r, moved.N, 5))
		}},
		{Name: "splice/empty", Idle: "nothing is sent", Run: func(t *T) {
			t.S.Patience(100 * time.Millisecond)
			_, w := t.Pipe(0)
			t.See("splice", splice(t.S, w, 64, spliceNonblock))
		}},
		{Name: "splice/end-of-stream", AlsoBlocking: true, Run: func(t *T) {
			r, w := t.Pipe(0)
			t.C.Send("hello", 0)
			t.C.Shutdown(unix.SHUT_WR)
			t.Pause()
			moved := splice(t.S, w, 64, 0)
			t.See("splice", moved)
			t.Stream("all bytes", spliced(t, r, moved.N, 5))
		}},
		{Name: "splice/partial", Run: func(t *T) {
			r, w := t.Pipe(0)
			t.C.Send("abcdefgh", 0)
			t.Pause()
			moved := splice(t.S, w, 3, spliceNonblock)
			t.See("splice", moved)
			t.Stream("all bytes", spliced(t, r, moved.N, 8))
		}},
		{Name: "splice/after-recv", Run: func(t *T) {
			r, w := t.Pipe(0)
			t.C.Send("abcdefgh", 0)
			t.Pause()
			t.See("recv", t.S.Recv(3, 0))
			moved := splice(t.S, w, 64, spliceNonblock)
			t.See("splice", moved)
			t.Stream("all bytes", spliced(t, r, moved.N, 5))
		}},
		{Name: "splice/after-peek", Run: func(t *T) {
			r, w := t.Pipe(0)
			t.C.Send("abcdefgh", 0)
			t.Pause()
			t.See("peek", t.S.Recv(3, peek))
			moved := splice(t.S, w, 64, spliceNonblock)
			t.See("splice", moved)
			t.Stream("all bytes", spliced(t, r, moved.N, 8))
		}},
		{Name: "splice/tee", Run: func(t *T) {
			r, w := t.Pipe(0)
			_, copies := t.Pipe(0)
			t.C.Send("hello", 0)
			t.Pause()
			moved := splice(t.S, w, 64, spliceNonblock)
			t.See("splice", moved)
			t.See("tee", suite.Call(unix.SYS_TEE, uintptr(r.FD), uintptr(copies.FD), 64, spliceNonblock))
			t.Stream("all bytes", spliced(t, r, moved.N, 5))
		}},
		{Name: "splice/proxy-with-fallback", AlsoBlocking: true, Alone: true, Bulk: true,
			Run: func(t *T) { spliceProxy(t, true) }},
		{Name: "splice/proxy", AlsoBlocking: true, Alone: true, Run: func(t *T) { spliceProxy(t, false) }},
		{Name: "splice/proxy-stops-on-zero", AlsoBlocking: true, Alone: true, Run: spliceUntilEnd},
	}
}

// splicingOtherwise has cases of other system calls that splice from a socket.
func splicingOtherwise() []Case {
	return []Case{
		{Name: "splice/by-sendfile", Run: func(t *T) {
			r, w := t.Pipe(0)
			t.C.Send("hello", 0)
			t.Pause()
			moved := t.S.Await(unix.POLLIN, func() suite.Ret {
				return suite.Call(unix.SYS_SENDFILE, uintptr(w.FD), uintptr(t.S.FD), 0, 64)
			})
			t.See("sendfile to a pipe", moved)
			t.Stream("all bytes", spliced(t, r, moved.N, 5))
		}},
	}
}

// spliced collects the bytes that went into the pipe, and reads the rest by recv(2), as a program does whose
// splice(2) was refused.
func spliced(t *T, r *Sock, n, all int) (got []byte) {
	if n > 0 {
		b := make([]byte, n)
		if n, err := unix.Read(r.FD, b); err == nil {
			got = append(got, b[:n]...)
		}
	}
	for len(got) < all {
		rest := t.S.Recv(all-len(got), dontwait)
		if rest.N <= 0 {
			break
		}
		got = append(got, rest.Data...)
	}
	return got
}

// spliceProxy moves a stream from one connection to another through a pipe.
func spliceProxy(t *T, fallBack bool) {
	client, in := t.Connection()
	out, server := t.Connection()
	t.WarmUp(client, in)
	t.WarmUp(out, server)
	sent := pattern(1<<20, 15)
	w := suite.Go(t, func() suite.Ret {
		r := writeMixed(t, client, sent)
		client.Shutdown(unix.SHUT_WR)
		return r
	})
	proxy := suite.Go(t, func() string {
		defer out.Shutdown(unix.SHUT_WR)
		return pump(t, in, out, fallBack)
	})
	got, _ := server.ReadAll()
	result := proxy.Wait()
	t.See("proxy", result)
	text := suite.Text(got)
	if result != "end" {
		text += ", then " + result // no bytes are missing without an error
	}
	t.Received("received", text)
	in.Close()
	w.Wait()
}

// pump splices until the end of the stream. With fallBack it reads and writes after EINVAL.
func pump(t *T, in, out *Sock, fallBack bool) string {
	r, w := t.Pipe(0)
	for {
		moved := splice(in, w, 64<<10, 0)
		switch {
		case moved.Errno == unix.EINVAL && fallBack:
			return pumpByCopying(in, out)
		case moved.Errno != 0:
			return moved.String()
		case moved.N == 0:
			return "end"
		}
		for left := moved.N; left > 0; {
			n := splice(r, out, left, 0)
			if n.Errno != 0 {
				return "out: " + n.String()
			}
			left -= n.N
		}
	}
}

func pumpByCopying(in, out *Sock) string {
	for {
		r := in.Recv(64<<10, 0)
		switch {
		case r.Errno != 0:
			return r.String()
		case r.N == 0:
			return "end"
		}
		if w := out.WriteAll(r.Data); w.Errno != 0 {
			return "out: " + w.String()
		}
	}
}

// spliceUntilEnd has a proxy that begins when all bytes and the end of the stream have arrived: bytes that it
// does not see then are missing without an error.
func spliceUntilEnd(t *T) {
	client, in := t.Connection()
	out, server := t.Connection()
	t.WarmUp(client, in)
	t.WarmUp(out, server)
	sent := pattern(8<<10, 16)
	t.See("send", client.WriteAll(sent))
	client.Shutdown(unix.SHUT_WR)
	t.Pause()
	t.See("proxy", pump(t, in, out, true))
	out.Shutdown(unix.SHUT_WR)
	got, _ := server.ReadAll()
	t.Stream("received", got)
}

// splicingOut has cases of splice(2) and vmsplice(2) to a socket.
func splicingOut() []Case {
	return []Case{
		{Name: "splice/to-socket", AlsoBlocking: true, Run: func(t *T) {
			r, w := t.Pipe(0)
			_, err := unix.Write(w.FD, []byte("hello"))
			t.Check(err, "write to pipe")
			t.See("splice", splice(r, t.C, 64, 0))
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "splice/vmsplice-to-socket", Run: func(t *T) {
			r, w := t.Pipe(0)
			b := t.Buffer(5)
			copy(b, "hello")
			v := unix.Iovec{Base: &b[0], Len: 5}
			t.See("vmsplice", suite.Call(unix.SYS_VMSPLICE, uintptr(w.FD), suite.Keep(t, &v), 1, 0))
			t.See("splice", splice(r, t.C, 64, 0))
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "splice/file-to-socket", Bulk: true, Run: func(t *T) {
			sent := pattern(512<<10, 17)
			f := fileOf(t, sent)
			r, w := t.Pipe(0)
			task := suite.Go(t, func() string {
				for moved := 0; moved < len(sent); {
					n := splice(f, w, 64<<10, 0)
					if n.N <= 0 {
						return fmt.Sprint("in ", n)
					}
					for left := n.N; left > 0; {
						m := splice(r, t.C, left, 0)
						if m.N <= 0 {
							return fmt.Sprint("out ", m)
						}
						left -= m.N
					}
					moved += n.N
				}
				return "done"
			})
			t.Receive("received", t.S, len(sent))
			t.See("splice", task.Wait())
		}},
		{Name: "splice/to-full-socket", Run: func(t *T) {
			sent := fill(t, t.C)
			r, w := t.Pipe(0)
			_, err := unix.Write(w.FD, []byte("hello"))
			t.Check(err, "write to pipe")
			t.C.Nonblock(true)
			moved := splice(r, t.C, 64, spliceNonblock)
			t.See("does not wait", moved.N == 5 || moved.Errno == unix.EAGAIN)
			if moved.N == 5 { // there was free space again
				sent = append(sent, "hello"...)
			}
			got, _ := t.S.ReadFull(len(sent))
			t.See("all received", suite.Text(got) == suite.Text(sent))
		}},
		{Name: "splice/more", Run: func(t *T) {
			const spliceMore = 4
			r, w := t.Pipe(0)
			_, err := unix.Write(w.FD, []byte("abc"))
			t.Check(err, "write to pipe")
			t.See("splice", splice(r, t.C, 3, spliceMore))
			t.C.Send("def", 0)
			t.Receive("received", t.S, 6)
		}},
	}
}

// fileOf is a file in memory with these bytes, to be read from the beginning.
func fileOf(t *T, b []byte) *Sock {
	fd, err := unix.MemfdCreate("conformance", unix.MFD_CLOEXEC)
	t.Check(err, "make file")
	f := t.Own(fd)
	for done := 0; done < len(b); {
		n, err := unix.Pwrite(fd, b[done:], int64(done))
		t.Check(err, "write file")
		done += n
	}
	return f
}

// sendingFiles has cases of sendfile(2).
func sendingFiles() []Case {
	sendfile := func(t *T, f *Sock, offset *int64, n int) suite.Ret {
		var at uintptr
		if offset != nil {
			at = suite.Keep(t, offset)
		}
		return t.C.Await(unix.POLLOUT, func() suite.Ret {
			return suite.Call(unix.SYS_SENDFILE, uintptr(t.C.FD), uintptr(f.FD), at, uintptr(n))
		})
	}
	return []Case{
		{Name: "sendfile/small", Run: func(t *T) {
			f := fileOf(t, []byte("hello"))
			t.See("sendfile", sendfile(t, f, nil, 64))
			t.See("at the end", sendfile(t, f, nil, 64))
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "sendfile/offset", Run: func(t *T) {
			f := fileOf(t, []byte("abcdefgh"))
			offset := int64(3)
			t.See("sendfile", sendfile(t, f, &offset, 2))
			t.See("offset", offset)
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "sendfile/large", AlsoBlocking: true, Bulk: true, Run: func(t *T) {
			sent := pattern(3<<20, 18)
			f := fileOf(t, sent)
			task := suite.Go(t, func() string {
				for done := 0; done < len(sent); {
					r := sendfile(t, f, nil, len(sent))
					if r.N <= 0 {
						return r.String()
					}
					done += r.N
				}
				return "done"
			})
			t.Receive("received", t.S, len(sent))
			t.See("sendfile", task.Wait())
		}},
		{Name: "sendfile/stopped-reader", Run: func(t *T) {
			sent := pattern(24<<20, 19)
			f := fileOf(t, sent)
			t.C.Nonblock(true)
			done := 0
			for range 1000 {
				r := sendfile(t, f, nil, 256<<10)
				if r.N <= 0 {
					t.See("sendfile", r)
					break
				}
				done += r.N
			}
			t.See("bounded", done < len(sent))
			got, _ := t.S.ReadFull(done)
			t.See("all received", suite.Text(got) == suite.Text(sent[:done]))
		}},
		{Name: "sendfile/header-then-file", Run: func(t *T) {
			f := fileOf(t, []byte("body"))
			t.C.Send("head ", more)
			t.See("sendfile", sendfile(t, f, nil, 4))
			t.Receive("received", t.S, 9)
		}},
		{Name: "sendfile/file-changes-after", Run: func(t *T) {
			// The kernel may send the pages themselves, so a later write to the file may be visible to the
			// reader. Therefore only the count is recorded.
			f := fileOf(t, []byte("hello"))
			t.See("sendfile", sendfile(t, f, nil, 5))
			_, err := unix.Pwrite(f.FD, []byte("HELLO"), 0)
			t.Check(err, "write file")
			t.Pause()
			t.See("recv", t.S.Recv(16, 0).N)
		}},
	}
}
