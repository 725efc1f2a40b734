// SPDX-License-Identifier: Apache-2.0

package add

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func TestBeyondIsTheDifferenceWithinARound(t *testing.T) {
	got := times{result.Plain: {10, 20}, result.Sockmap: {13, 22}, Tuning: {9}}.beyond()
	if !slices.Equal(got[result.Sockmap], []float64{3, 2}) || !slices.Equal(got[Tuning], []float64{-1}) ||
		len(got) != 2 {
		t.Error(got)
	}
}

func TestPercentileIsANearestRank(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for p, want := range map[float64]float64{0: 1, 50: 3, 99: 5, 100: 5} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%v is %v, want %v", p, got, want)
		}
	}
	if percentile(nil, 50) != 0 {
		t.Error("of nothing")
	}
}

func TestEachCallsAllAndStopsAtErrors(t *testing.T) {
	var calls atomic.Int64
	if err := each(100, func(int) error { calls.Add(1); return nil }); err != nil || calls.Load() != 100 {
		t.Error(err, calls.Load())
	}
	bad := errors.New("bad")
	calls.Store(0)
	if err := each(10_000, func(int) error { calls.Add(1); return bad }); !errors.Is(err, bad) ||
		calls.Load() > width {
		t.Error(err, calls.Load())
	}
	if err := together(3, func(i int) error { return []error{nil, bad, nil}[i] }); !errors.Is(err, bad) {
		t.Error(err)
	}
}
