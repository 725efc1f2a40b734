// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// passing has cases of one socket with several descriptors or in several processes.
func passing() []Case {
	return []Case{
		{Name: "dup/both-read", AlsoBlocking: true, Run: func(t *T) {
			d := t.S.Dup()
			t.C.Send("abcdef", 0)
			t.Pause()
			t.See("recv", t.S.Recv(3, 0))
			t.See("recv of duplicate", d.Recv(16, 0))
		}},
		{Name: "dup/close-one", Run: func(t *T) {
			d := t.S.Dup()
			t.S.Close()
			t.C.Send("hello", 0)
			t.See("recv", d.Recv(16, 0))
			d.Send("hi", 0)
			t.See("answer", t.C.Recv(16, 0))
			d.Close()
			t.See("end", t.C.Recv(16, 0))
		}},
		{Name: "dup/shutdown-is-for-all", Run: func(t *T) {
			d := t.S.Dup()
			d.Send("hello", 0)
			d.Shutdown(unix.SHUT_WR)
			t.See("send", t.S.Send("more", 0))
			got, last := t.C.ReadAll()
			t.Stream("received", got)
			t.See("end", last)
		}},
	}
}

// inheriting has cases of a socket in several processes.
func inheriting() []Case {
	server := func(s *Sock) []*Sock { return []*Sock{s} }
	return []Case{
		{Name: "fork/child-reads", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("for you", 0)
			p := child(t, place.Server, server(t.S), "read", 7)
			t.See("child", p.Output())
		}},
		{Name: "fork/child-waits", AlsoBlocking: true, Run: func(t *T) {
			p := child(t, place.Server, server(t.S), "read", 7)
			p.Said("ready")
			t.Pause()
			t.C.Send("for you", 0)
			t.See("child", p.Output())
		}},
		{Name: "fork/child-writes", AlsoBlocking: true, Run: func(t *T) {
			p := child(t, place.Server, server(t.S), "write", "hello from the child")
			t.See("child", p.Output())
			t.See("recv", t.C.Recv(64, 0))
		}},
		{Name: "fork/parent-reads-child-reads", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("abc", 0)
			t.C.Send("defgh", 0)
			t.Pause()
			t.See("parent", t.S.Recv(4, 0))
			t.See("child", child(t, place.Server, server(t.S), "read", 4).Output())
			t.C.Send("again", 0)
			t.See("parent", t.S.Recv(16, 0))
		}},
		{Name: "fork/parent-closes", AlsoBlocking: true, Run: func(t *T) {
			p := child(t, place.Server, server(t.S), "echo")
			t.S.Close()
			p.Said("ready")
			echoes(t)
			t.C.Shutdown(unix.SHUT_WR)
			t.See("end", t.C.Recv(16, 0))
			t.See("child", p.End())
		}},
		{Name: "fork/first-message-to-child", AlsoBlocking: true, Fresh: true, Run: func(t *T) {
			p := child(t, place.Server, server(t.S), "echo")
			t.S.Close()
			p.Said("ready")
			echoes(t)
		}},
	}
}

// passingOn has cases of SCM_RIGHTS.
func passingOn() []Case {
	return []Case{
		{Name: "scm/to-other-process", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("before it is passed", 0)
			t.Pause()
			p := passOn(t, t.S)
			t.S.Close()
			t.Receive("echo", t.C, 19)
			echoes(t)
			t.C.Shutdown(unix.SHUT_WR)
			t.See("child", p.End())
		}},
		{Name: "scm/to-own-process", Run: func(t *T) {
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			t.Check(err, "make socket pair")
			a, b := t.Own(ends[0]), t.Own(ends[1])
			t.Check(unix.Sendmsg(a.FD, []byte{0}, unix.UnixRights(t.S.FD), nil, 0), "pass socket")
			t.S.Close()
			t.C.Send("in flight", 0)
			t.Pause()
			m := b.Recvmsg(0, 64, 1)
			fds, err := unix.ParseUnixRights(&m.Control[0])
			t.Check(err, "receive socket")
			got := make([]byte, 16)
			n, err := unix.Read(t.Own(fds[0]).FD, got)
			t.See("read", suite.Errno(err))
			t.Stream("received", got[:max(n, 0)])
		}},
	}
}

// processes has cases about a socket whose process is stopped or killed.
func processes() []Case {
	server := func(s *Sock) []*Sock { return []*Sock{s} }
	return []Case{
		{Name: "process/killed-writer", AlsoBlocking: true, Run: killedWriter},
		{Name: "process/killed-reader", AlsoBlocking: true, Run: func(t *T) {
			p := child(t, place.Server, server(t.S), "sleep")
			t.S.Close()
			p.Said("ready")
			sent := pattern(16<<20, 61)
			w := suite.Go(t, func() suite.Ret { return t.C.WriteAll(sent) })
			t.Rest(50 * time.Millisecond)
			p.Kill()
			t.See("send", w.Wait())
			t.See("recv fails or ends", t.C.Recv(16, 0).N <= 0)
		}},
		{Name: "process/exits-with-data-unread", AlsoBlocking: true, Bulk: true, Run: func(t *T) {
			p := child(t, place.Server, server(t.S), "flood", "once")
			t.S.Close()
			t.See("child", p.End())
			got, last := t.C.ReadAll()
			t.Stream("received", got)
			t.See("end", last)
		}},
		{Name: "process/stopped-and-continued", AlsoBlocking: true, Run: func(t *T) {
			t.S.Endless()
			p := child(t, place.Server, server(t.S), "read", 5)
			p.Said("ready")
			t.Pause()
			t.Check(p.Process.Signal(unix.SIGSTOP), "stop child")
			t.Pause()
			t.Check(p.Process.Signal(unix.SIGCONT), "continue child")
			t.Pause()
			t.C.Send("hello", 0)
			t.See("child", p.Output())
		}},
		{Name: "process/data-while-stopped", AlsoBlocking: true, Run: func(t *T) {
			t.S.Endless()
			p := child(t, place.Server, server(t.S), "read", 10)
			p.Said("ready")
			t.Check(p.Process.Signal(unix.SIGSTOP), "stop child")
			t.Pause()
			t.C.Send("hello", 0)
			t.C.Send("world", 0)
			t.Pause()
			t.Check(p.Process.Signal(unix.SIGCONT), "continue child")
			t.See("child", p.Output())
		}},
	}
}

// echoes sends a few messages to an end that echoes.
func echoes(t *T) {
	for _, n := range []int{1, 100, 5000, 40000} {
		sent := pattern(n, uint64(n))
		t.C.WriteAll(sent)
		t.Receive("echo", t.C, n)
	}
}

// passOn gives a socket to a process that echoes on it.
func passOn(t *T, s *Sock) *suite.Process {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	t.Check(err, "make socket pair")
	mine, theirs := t.Own(ends[0]), t.Own(ends[1])
	p := child(t, place.Server, []*Sock{theirs}, "received")
	p.Said("ready")
	t.Check(unix.Sendmsg(mine.FD, []byte{0}, unix.UnixRights(s.FD), nil, 0), "pass socket")
	return p
}

// killedWriter is killed during a stream: the bytes that it has sent arrive, and then the end of the stream.
func killedWriter(t *T) {
	p := child(t, place.Server, []*Sock{t.S}, "flood")
	t.S.Close()
	got, _ := t.C.ReadFull(300_000)
	p.Kill()
	rest, last := t.C.ReadAll()
	got = append(got, rest...)
	once := pattern(100_000, 60)
	whole := true
	for i := 0; i < len(got); i += len(once) {
		piece := got[i:min(i+len(once), len(got))]
		whole = whole && bytes.Equal(piece, once[:len(piece)])
	}
	t.See("every byte in order", whole)
	t.See("end", last)
}
