// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// report is the output of a client.
type report struct {
	Operations int     `json:"operations"`
	Seconds    float64 `json:"seconds"`
	P99        float64 `json:"p99"` // nanoseconds
}

// exchange is a request and its answer, which it checks.
type exchange func(ctx context.Context) error

// load calls each exchange in its own loop until the time is over, and measures the calls that begin after
// the warm-up.
func load(ctx context.Context, duration time.Duration, exchanges []exchange) (report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now().Add(duration / 10)
	end := begin.Add(duration)
	times := make([][]int64, len(exchanges))
	errs := make([]error, len(exchanges))
	var all sync.WaitGroup
	for i, once := range exchanges {
		all.Go(func() {
			if times[i], errs[i] = repeat(ctx, begin, end, once); errs[i] != nil {
				cancel() // the others need not continue
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	if err := errors.Join(errs...); err != nil {
		return report{}, err
	}
	sorted := slices.Sorted(slices.Values(slices.Concat(times...)))
	if len(sorted) == 0 {
		return report{}, errors.New("nothing was answered in time: give it more with -duration")
	}
	return report{len(sorted), took.Seconds(), float64(sorted[len(sorted)*99/100])}, nil
}

// repeat returns the nanoseconds of each call.
func repeat(ctx context.Context, begin, end time.Time, once exchange) (times []int64, err error) {
	times = make([]int64, 0, 1<<14)
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; {
		if err := once(ctx); err != nil {
			return nil, err
		}
		after := time.Now()
		if !now.Before(begin) {
			times = append(times, after.Sub(now).Nanoseconds())
		}
		now = after
	}
	return times, nil
}
