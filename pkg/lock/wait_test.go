// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// An agent waits repeatedly for as long as somebody holds the lock.
func TestWaitsThatEndLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	mustLock(t, dir)
	count := func(of string) int {
		entries, err := os.ReadDir(of)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	threads, descriptors := count("/proc/self/task"), count("/proc/self/fd")
	for range 100 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		if _, err := Exclusive(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
		cancel()
	}
	// The Go runtime may start a few threads of its own.
	if now := count("/proc/self/task"); now > threads+10 {
		t.Errorf("%d threads became %d", threads, now)
	}
	if now := count("/proc/self/fd"); now != descriptors {
		t.Errorf("%d descriptors became %d", descriptors, now)
	}
}
