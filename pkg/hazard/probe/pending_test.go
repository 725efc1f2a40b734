// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A signal counts when the thread has taken it, and not when it was sent: a thread that is woken on a busy
// processor looks asleep.
func TestASignalIsPendingUntilItIsTaken(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, blocked, before := unix.Gettid(), unix.Sigset_t{}, unix.Sigset_t{}
	blocked.Val[0] = 1 << (unix.SIGURG - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &before); err != nil {
		t.Fatal(err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	want := func(when string, want bool) {
		t.Helper()
		if got, err := isPending(thread, unix.SIGURG); got != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", when, got, err, want)
		}
	}
	if err := unix.Tgkill(os.Getpid(), thread, unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	want("blocked", true)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
		t.Fatal(err)
	}
	want("taken", false)
	if _, err := isPending(-1, unix.SIGURG); err == nil {
		t.Error("no error for a thread that is not there")
	}
}
