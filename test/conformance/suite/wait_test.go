// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ends are the two ends of a stream, whose calls wait as in a case of this kind.
func ends(t *testing.T, waits waiting) (a, b *Sock) {
	t.Helper()
	run := &T{scale: 1, waits: waits, Context: t.Context()}
	t.Cleanup(run.close)
	typ := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if waits == inPoll {
		typ |= unix.SOCK_NONBLOCK
	}
	p, err := unix.Socketpair(unix.AF_UNIX, typ, 0)
	if err != nil {
		t.Fatal(err)
	}
	return run.own(p[0]), run.own(p[1])
}

// styles are both ways to wait.
func styles(t *testing.T, f func(t *testing.T, a, b *Sock)) {
	for name, waits := range map[string]waiting{"in the kernel": inKernel, "in poll": inPoll} {
		t.Run(name, func(t *testing.T) {
			a, b := ends(t, waits)
			f(t, a, b)
		})
	}
}

func TestBothStylesOfWaitingGiveTheSameResults(t *testing.T) {
	styles(t, func(t *testing.T, a, b *Sock) {
		task := Go(a.t, func() Ret { return a.Recv(16, 0) })
		if task.Done() {
			t.Error("recv of nothing did not wait")
		}
		b.Send("hello", 0)
		if got := task.Wait().String(); got != `5 "hello"` {
			t.Errorf("recv: %s", got)
		}
		a.Patience(50 * time.Millisecond)
		if got := a.Recv(16, 0).String(); got != "blocks" {
			t.Errorf("recv until patience is over: %s", got)
		}
		for name, r := range map[string]Ret{"MSG_DONTWAIT": a.Recv(16, unix.MSG_DONTWAIT),
			"O_NONBLOCK": nonblocking(a)} {
			if got := r.String(); got != "EAGAIN" {
				t.Errorf("recv with %s: %s", name, got)
			}
		}
		a.Nonblock(false)
		sent := make([]byte, 4<<20)
		writer := Go(a.t, func() Ret { return a.WriteAll(sent) })
		if got, last := b.ReadFull(len(sent)); len(got) != len(sent) {
			t.Errorf("received %d bytes, then %s", len(got), last)
		}
		if got := writer.Wait(); got.N != len(sent) {
			t.Errorf("send: %s", got)
		}
		a.Patience(50 * time.Millisecond)
		if got := a.WriteAll(sent).String(); got != "blocks" {
			t.Errorf("send without a reader: %s", got)
		}
	})
}

func nonblocking(s *Sock) Ret {
	s.Nonblock(true)
	return s.Recv(16, 0)
}

func TestWatchdogEndsACallWithoutLimit(t *testing.T) {
	styles(t, func(t *testing.T, a, _ *Sock) {
		ctx, cancel := context.WithCancel(t.Context())
		a.t.Context = ctx
		a.Endless()
		task := Go(a.t, func() Ret { return a.Recv(16, 0) })
		if task.Done() {
			t.Error("recv of nothing did not wait")
		}
		cancel()
		a.t.stop()
		if got := task.Wait().String(); got != endOfStream {
			t.Errorf("recv after shutdown: %s", got)
		}
	})
}

func TestPollStyleKeepsNonblockUntilTheCaseWaitsInTheKernel(t *testing.T) {
	a, _ := ends(t, inPoll)
	isSet := func() bool {
		flags, err := unix.FcntlInt(uintptr(a.FD), unix.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		return flags&unix.O_NONBLOCK != 0
	}
	if !isSet() {
		t.Error("a descriptor of poll's is blocking")
	}
	a.Nonblock(true)
	if a.Nonblock(false); !isSet() {
		t.Error("it is after O_NONBLOCK was asked for and taken back")
	}
	a.Patience(50 * time.Millisecond)
	if a.WaitInKernel(); isSet() {
		t.Error("one that waits in the kernel is not")
	}
	if got := a.Recv(16, 0).String(); got != "blocks" {
		t.Errorf("recv in the kernel: %s", got)
	}
}

func TestExpandAddsTheVariantsThatAreAskedFor(t *testing.T) {
	all := Expand([]Case{
		{Name: "a/plain", Bulk: true}, {Name: "a/both", Bulk: true, AlsoBlocking: true},
		{Name: "a/late", AlsoAtOnce: true},
	})
	want := map[string]Case{
		"a/plain": {Bulk: true}, "a/both": {Bulk: true}, "a/both-blocking": {Blocking: true},
		"a/late": {}, "a/late-from-the-start": {Fresh: true},
	}
	if len(all) != len(want) {
		t.Errorf("%d cases, want %d", len(all), len(want))
	}
	for _, c := range all {
		w, ok := want[c.Name]
		if !ok || c.Blocking != w.Blocking || c.Fresh != w.Fresh || c.Bulk != w.Bulk {
			t.Errorf("%s: blocking %v, fresh %v, bulk %v", c.Name, c.Blocking, c.Fresh, c.Bulk)
		}
	}
}
