// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// A call that cannot be counted soon gets an error, and is not counted; all others are.
func TestCallsOfManyAtOnceAreCountedOnce(t *testing.T) {
	d := load(t, defaults)
	const workers, each = 4, 25
	var wg sync.WaitGroup
	var late atomic.Uint64
	for range workers {
		wg.Go(func() {
			for range each {
				err := RecordCall(d.Dir(), CallKey{Command: "ADD"}, 3*time.Millisecond)
				if errors.Is(err, context.DeadlineExceeded) {
					late.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	counted := workers*each - late.Load()
	if counted < each {
		t.Fatalf("only %d calls could be counted", counted)
	}
	for _, took := range []time.Duration{0, callFirst, callFirst + 1, time.Hour} {
		if err := RecordCall(d.Dir(), CallKey{Command: "CHECK", Code: 999, Withheld: true}, took); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.Calls()
	if err != nil {
		t.Fatal(err)
	}
	adds, checks := make([]uint64, callBuckets), make([]uint64, callBuckets)
	adds[3] = counted // 2.048 ms to 4.096 ms
	checks[0], checks[1] = 2, 1
	want := map[CallKey]CallSums{
		{Command: "ADD"}: {counted, time.Duration(counted) * 3 * time.Millisecond, adds},
		{Command: "CHECK", Code: 999, Withheld: true}: {4, time.Hour + 2*callFirst + 1, checks},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCallsAreNotCountedWhileNothingIsLoaded(t *testing.T) {
	if err := RecordCall(filepath.Join(t.TempDir(), "sockmap"), CallKey{Command: "DEL"},
		time.Second); err != nil {
		t.Error(err)
	}
}

// BenchmarkRecordCall is the time by which counting a call delays a container.
func BenchmarkRecordCall(b *testing.B) {
	dir := newStateDir(b)
	d, err := Load(dir, defaults)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for b.Loop() {
		if err := RecordCall(dir, CallKey{Command: "ADD"}, time.Millisecond); err != nil {
			b.Fatal(err)
		}
	}
	if err := Unload(dir, false); err != nil {
		b.Fatal(err)
	}
}
