// SPDX-License-Identifier: Apache-2.0

package cases

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// Signals that only these cases use: the first interrupts calls, the second lets them be restarted, and the
// third is for SIGIO.
const interrupting, restarting, ioSignal = syscall.Signal(40), syscall.Signal(41), syscall.Signal(42)

// signals has cases of calls during which a signal comes.
func signals() []Case {
	return []Case{
		{Name: "signal/interrupts-recv", Blocking: true, Run: func(t *T) {
			t.S.Endless()
			r := interrupted(t, interrupting, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("recv", r.Wait())
			t.S.Patience(time.Second)
			t.C.Send("hello", 0)
			t.See("recv after", t.S.Recv(16, 0))
		}},
		{Name: "signal/restarts-recv", Blocking: true, Run: func(t *T) {
			t.S.Endless()
			r := interrupted(t, restarting, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("returned by the signal", r.Done())
			t.C.Send("hello", 0)
			t.See("recv", r.Wait())
		}},
		{Name: "signal/restarts-read", Blocking: true, Run: func(t *T) {
			t.S.Endless()
			r := interrupted(t, restarting, func() suite.Ret { return t.S.Read(16) })
			t.See("returned by the signal", r.Done())
			t.C.Send("hello", 0)
			t.See("read", r.Wait())
		}},
		{Name: "signal/interrupts-recv-with-timeout", Blocking: true, Run: func(t *T) {
			r := interrupted(t, restarting, func() suite.Ret { return t.S.Recv(16, 0) })
			t.See("recv", r.Wait())
			t.C.Send("hello", 0)
			t.See("recv after", t.S.Recv(16, 0))
		}},
		{Name: "signal/interrupts-waitall", AlsoAtOnce: true, Yields: "MSG_WAITALL", Run: func(t *T) {
			t.S.Endless()
			t.S.WaitInKernel()
			t.C.Send("abc", 0)
			t.Pause()
			r := interrupted(t, interrupting, func() suite.Ret { return t.S.Recv(6, waitall) })
			t.See("recv", r.Wait())
		}},
		{Name: "signal/interrupts-poll", Idle: idle, Run: func(t *T) {
			r := interrupted(t, interrupting, func() suite.Ret {
				return suite.Ret{Data: []byte(t.S.Poll(unix.POLLIN, time.Second))}
			})
			t.See("poll", string(r.Wait().Data))
		}},
		{Name: "signal/interrupts-send", Blocking: true, Run: func(t *T) {
			t.C.Endless()
			sent := pattern(24<<20, 62)
			r := interrupted(t, interrupting, func() suite.Ret { return t.C.SendBytes(sent, 0) }).Wait()
			t.See("some sent", r.N > 0 && r.N < len(sent))
			got, _ := t.S.ReadFull(max(r.N, 0))
			t.See("and received", suite.Text(got) == suite.Text(sent[:max(r.N, 0)]))
		}},
		{Name: "signal/pipe", Idle: "the connection is not established any more", Run: func(t *T) {
			t.C.Close()
			t.Pause()
			t.S.Send("provokes a RST", 0)
			t.Pause()
			t.See("writes", child(t, place.Server, []*Sock{t.S}, "pipe").Output())
		}},
		{Name: "signal/pipe-after-own-shutdown", Idle: idle, Run: func(t *T) {
			t.S.Shutdown(unix.SHUT_WR)
			t.See("writes", child(t, place.Server, []*Sock{t.S}, "pipe").Output())
		}},
		{Name: "signal/pipe-under-waiting-writer", AlsoBlocking: true, Run: func(t *T) {
			t.C.Endless()
			p := child(t, place.Client, []*Sock{t.C}, "flood-pipe")
			t.C.Close()
			t.Rest(100 * time.Millisecond)
			reset(t, t.S)
			t.See("write", p.Output())
		}},
		{Name: "signal/io", Run: signalIO},
	}
}

// interrupted runs f on a thread that gets sig while f sleeps in the kernel.
func interrupted(t *T, sig syscall.Signal, f func() suite.Ret) *suite.Task[suite.Ret] {
	handle(t, sig)
	task := suite.Go(t, func() suite.Ret {
		var set unix.Sigset_t
		set.Val[0] = 1 << (uint(sig) - 1)
		_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &set, nil)
		return f()
	})
	t.See("returned early", task.Done())
	if err := unix.Tgkill(os.Getpid(), task.Thread(), sig); err != unix.ESRCH {
		t.Check(err, "send signal") // no such thread: the call has returned
	}
	return task
}

// sigaction is the kernel's struct sigaction.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// handle installs a handler that does nothing. The Go runtime's handlers have SA_RESTART, so they are
// replaced where calls must be interrupted.
func handle(t *T, sig syscall.Signal) {
	const saRestart = 0x10000000
	c := make(chan os.Signal, 16)
	signal.Notify(c, sig)
	t.Cleanup(func() { signal.Stop(c) })
	if sig != interrupting {
		return
	}
	var act sigaction
	address := suite.Keep(t, &act)
	r := suite.Call(unix.SYS_RT_SIGACTION, uintptr(sig), 0, address, 8)
	act.flags &^= saRestart
	if r.Errno == 0 {
		r = suite.Call(unix.SYS_RT_SIGACTION, uintptr(sig), address, 0, 8)
	}
	if r.Errno != 0 {
		t.Fail("rt_sigaction: %w", r.Errno)
	}
}

// signalIO asks for a signal when there are bytes to read.
func signalIO(t *T) {
	const setSignal = 10
	c := make(chan os.Signal, 16)
	signal.Notify(c, ioSignal)
	t.Cleanup(func() { signal.Stop(c) })
	arrived := func() bool {
		select {
		case <-c:
			return true
		case <-time.After(t.Scaled(300 * time.Millisecond)):
			return false
		}
	}
	fd := uintptr(t.S.FD)
	_, err := unix.FcntlInt(fd, setSignal, int(ioSignal))
	t.Check(err, "F_SETSIG")
	_, err = unix.FcntlInt(fd, unix.F_SETOWN, os.Getpid())
	t.Check(err, "F_SETOWN")
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	t.Check(err, "F_GETFL")
	_, err = unix.FcntlInt(fd, unix.F_SETFL, flags|unix.O_ASYNC|unix.O_NONBLOCK)
	t.Check(err, "F_SETFL")
	for range 2 {
		t.C.Send("hello", 0)
		t.See("signal", arrived())
		t.See("recv", t.S.Recv(16, 0))
		for len(c) > 0 {
			<-c
		}
	}
	t.C.Shutdown(unix.SHUT_WR)
	t.See("signal at the end", arrived())
}
