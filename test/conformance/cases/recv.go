// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// receiving has cases of each receiving call with the simplest data.
func receiving() []Case {
	return []Case{
		{Name: "recv/after-data", AlsoBlocking: true, Run: func(t *T) {
			t.See("send", t.C.Send("hello", 0))
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
		}},
		{Name: "recv/before-data", AlsoBlocking: true, Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.C.Send("hello", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "recv/first-message", AlsoBlocking: true, Fresh: true, Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recv", t.S.Recv(16, 0))
			t.S.Send("hi", 0)
			t.Pause()
			t.See("answer", t.C.Recv(16, 0))
		}},
		{Name: "recv/first-message-before-data", AlsoBlocking: true, Fresh: true, Run: func(t *T) {
			r := suite.Go(t, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned early", r.Done())
			t.C.Send("hello", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "recv/server-speaks-first", AlsoBlocking: true, Fresh: true, Run: func(t *T) {
			t.S.Send("220 ready", 0)
			t.Pause()
			t.See("banner", t.C.Recv(64, 0))
			t.C.Send("HELO", 0)
			t.Pause()
			t.See("command", t.S.Recv(64, 0))
		}},
		{Name: "recv/read", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("read", t.S.Read(16))
		}},
		{Name: "recv/recvmsg", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			m := t.S.Recvmsg(0, 64, 16)
			t.See("recvmsg", m)
			t.See("address bytes", m.Name)
		}},
		{Name: "recv/recvmsg-scattered", Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.Pause()
			t.See("recvmsg", t.S.Recvmsg(0, 0, 3, 0, 2, 9))
		}},
		{Name: "recv/recvmsg-cmsg-cloexec", Run: func(t *T) {
			const cmsgCloexec = 0x40000000
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recvmsg", t.S.Recvmsg(cmsgCloexec, 64, 16))
		}},
		{Name: "recv/dontwait-empty", Idle: "nothing is sent", Run: func(t *T) {
			t.See("recv", suite.Errno(t.S.Recv(16, dontwait).Errno))
		}},
		{Name: "recv/dontwait-after-data", Run: func(t *T) {
			t.C.Send("hello", 0)
			t.Pause()
			t.See("recv", t.S.Recv(16, dontwait))
			t.See("again", suite.Errno(t.S.Recv(16, dontwait).Errno))
		}},
		{Name: "recv/nonblocking", Run: func(t *T) {
			t.S.Nonblock(true)
			t.See("empty", t.S.Read(16))
			t.C.Send("hello", 0)
			t.Pause()
			t.See("with data", t.S.Read(16))
			t.See("empty again", t.S.Read(16))
		}},
		{Name: "recv/zero-length", AlsoAtOnce: true, Run: zeroLengthReads},
		{Name: "recv/bad-address", Run: badReadAddress},
	}
}

// receivingMany has cases about boundaries between messages, which TCP does not have.
func receivingMany() []Case {
	return []Case{
		{Name: "recv/two-messages-at-once", Run: func(t *T) {
			t.C.Send("hello ", 0)
			t.C.Send("world", 0)
			t.Pause()
			t.See("recv", t.S.Recv(64, 0))
		}},
		{Name: "recv/message-in-pieces", AlsoBlocking: true, Run: func(t *T) {
			t.C.Send("abcdefghij", 0)
			t.Pause()
			for _, n := range []int{1, 3, 2, 99} {
				t.See("recv", t.S.Recv(n, 0))
			}
		}},
		{Name: "recv/pieces-across-messages", Run: func(t *T) {
			for _, m := range []string{"ab", "cde", "f", "ghij"} {
				t.C.Send(m, 0)
			}
			t.Pause()
			for _, n := range []int{3, 3, 3, 3} {
				t.See("recv", t.S.Recv(n, 0))
			}
		}},
		{Name: "recv/large-message-in-odd-pieces", AlsoBlocking: true, Run: func(t *T) {
			sent := pattern(48<<10, 1)
			t.See("send", t.C.WriteAll(sent))
			t.Pause()
			var got []byte
			for n := 1; len(got) < len(sent); n = n*3 + 1 {
				r := t.S.Recv(min(n, len(sent)-len(got)), 0)
				if r.N <= 0 {
					t.See("recv", r)
					break
				}
				got = append(got, r.Data...)
			}
			t.Stream("received", got)
		}},
		{Name: "recv/readv", Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.Pause()
			t.See("readv", t.S.Readv(1, 2, 3))
			t.See("readv", t.S.Readv(1, 64))
		}},
		{Name: "recv/recvmmsg", Run: func(t *T) {
			t.C.Send("abcdefgh", 0)
			t.C.Send("ij", 0)
			t.Pause()
			t.See("recvmmsg", t.S.Recvmmsg(4, 3, dontwait, 0))
		}},
		{Name: "recv/recvmmsg-waitforone", AlsoBlocking: true, Run: func(t *T) {
			const waitForOne = 0x10000
			r := suite.Go(t, func() string { return t.S.Recvmmsg(4, 8, waitForOne, 0) })
			t.See("returned early", r.Done())
			t.C.Send("abcdefgh", 0)
			t.See("recvmmsg", r.Wait())
		}},
		{Name: "recv/recvmmsg-timeout", Blocking: true, Run: func(t *T) {
			t.S.Patience(150 * time.Millisecond)
			t.C.Send("abc", 0)
			t.Pause()
			t.See("recvmmsg", t.S.Recvmmsg(2, 3, 0, 50*time.Millisecond))
		}},
		{Name: "recv/null-messages-between", Run: func(t *T) {
			t.C.Send("ab", 0)
			t.See("empty send", t.C.Send("", 0))
			t.C.Send("cd", 0)
			t.Pause()
			t.See("recv", t.S.Recv(64, 0))
		}},
	}
}

func zeroLengthReads(t *T) {
	t.See("recv 0 of nothing", t.S.Recv(0, dontwait))
	t.See("read 0 of nothing", t.S.Read(0))
	t.C.Send("hello", 0)
	t.Pause()
	t.See("recv 0 of 5", t.S.Recv(0, dontwait))
	t.See("read 0 of 5", t.S.Read(0))
	t.See("recv", t.S.Recv(16, 0))
}

func badReadAddress(t *T) {
	t.C.Send("hello", 0)
	t.Pause()
	t.See("recv to nowhere", suite.Errno(t.S.ReadAt(1, 16, 0).Errno))
	t.See("recv", t.S.Recv(16, dontwait))
}
