// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A Task is a call that may block, on its own thread.
type Task[V any] struct {
	t     *T
	done  chan struct{}
	tid   int
	value V
	fault any
}

// Go runs f on its own thread, to which no signal is delivered: the Go runtime's signals would interrupt
// calls that an application's would not.
func Go[V any](t *T, f func() V) *Task[V] {
	task := &Task[V]{t: t, done: make(chan struct{})}
	started := make(chan struct{})
	go func() {
		defer close(task.done)
		defer func() { task.fault = recover() }()
		isolateThread()
		task.tid = unix.Gettid()
		close(started)
		task.value = f()
	}()
	<-started
	return task
}

// isolateThread locks the goroutine to its thread, which ends with it, and blocks all signals there.
func isolateThread() {
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil)
}

// Thread is the thread's id.
func (k *Task[V]) Thread() int { return k.tid }

// Done reports, after a moment, whether f has returned.
func (k *Task[V]) Done() bool {
	select {
	case <-k.done:
		return true
	case <-time.After(k.t.Scaled(2 * settling)):
		return false
	}
}

// Wait returns the result of f. It is bounded by the sockets' timeouts, and otherwise by the watchdog.
func (k *Task[V]) Wait() V {
	select {
	case <-k.done:
	case <-k.t.Context.Done():
		// The watchdog has shut the sockets down, which makes nearly all calls return.
		select {
		case <-k.done:
		case <-time.After(time.Second):
			k.t.Fail("a call did not return although its sockets were shut down")
		}
	}
	if k.fault != nil {
		panic(k.fault)
	}
	return k.value
}
