// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

// A Runner runs cases at a site.
type Runner struct {
	Site place.Site
	// Workers is the number of cases that run at once. Each worker has its own places.
	Workers int
	// Scale multiplies every time, for slow machines.
	Scale float64
	// Accepted: every connection must be accelerated, so a case whose bytes all used TCP shows nothing.
	// Otherwise the site may decline.
	Accepted bool
	// Control compares plain TCP with plain TCP: each difference is then an error of the suite.
	Control bool
	// Done is called with each result, by one goroutine at a time.
	Done func(Result)
}

// attempts is how often a case is run if it could not be run, if its bytes were not seen, or if it also
// differs on plain TCP.
const attempts = 3

// Run runs the cases. The error is about the site. Errors of a case are in its result.
func (r *Runner) Run(ctx context.Context, cases []Case) (report *Report, err error) {
	report = &Report{
		Kernel: kernel(), Site: r.Site.Name(), Accepted: r.Accepted, Control: r.Control,
		Started: time.Now(),
	}
	workers := make([]*worker, max(r.Workers, 1))
	var errs []error
	defer func() {
		for _, w := range workers {
			err = errors.Join(err, w.close())
		}
	}()
	for i := range workers {
		w, err := r.newWorker(ctx)
		workers[i] = w
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if report.Guards, err = r.Site.Guards(); err != nil {
		return nil, err
	}
	results := make([]Result, len(cases))
	r.parallel(ctx, workers, cases, results)
	for i, c := range cases {
		if c.Serial {
			results[i] = r.finish(workers[0].run(ctx, c))
		}
	}
	report.Cases = results
	report.Seconds = time.Since(report.Started).Seconds()
	return report, ctx.Err()
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// parallel runs the cases that are not Serial.
func (r *Runner) parallel(ctx context.Context, workers []*worker, cases []Case, results []Result) {
	next := make(chan int)
	var all sync.WaitGroup
	var one sync.Mutex
	for _, w := range workers {
		all.Go(func() {
			for i := range next {
				result := w.run(ctx, cases[i])
				one.Lock()
				results[i] = r.finish(result)
				one.Unlock()
			}
		})
	}
	for i, c := range cases {
		if !c.Serial {
			next <- i
		}
	}
	close(next)
	all.Wait()
}

func (r *Runner) finish(result Result) Result {
	if r.Done != nil {
		r.Done(result)
	}
	return result
}

// A worker has one plain and one accelerated place.
type worker struct {
	plain, accelerated place.Place
	scale              float64
	control, accepted  bool
}

func (r *Runner) newWorker(ctx context.Context) (w *worker, err error) {
	w = &worker{scale: r.Scale, control: r.Control, accepted: r.Accepted}
	if w.scale == 0 {
		w.scale = 1
	}
	if w.plain, err = r.Site.Place(ctx, false); err != nil {
		return w, fmt.Errorf("make plain place: %w", err)
	}
	if w.accelerated, err = r.Site.Place(ctx, !r.Control); err != nil {
		return w, fmt.Errorf("make accelerated place: %w", err)
	}
	return w, nil
}

func (w *worker) close() (err error) {
	if w == nil {
		return nil
	}
	for _, p := range []place.Place{w.plain, w.accelerated} {
		if p != nil {
			err = errors.Join(err, p.Close())
		}
	}
	return err
}

// run compares both sides. If they differ, it compares plain TCP with plain TCP before it reports a
// difference.
func (w *worker) run(ctx context.Context, c Case) (result Result) {
	for range attempts {
		plain := runOnce(ctx, c, w.plain, w.scale)
		accelerated := runOnce(ctx, c, w.accelerated, w.scale)
		result = w.judge(c, plain, accelerated)
		if result.Verdict == Broken || result.Verdict == Same && result.Unengaged {
			continue
		}
		if result.Verdict != Differs {
			return result
		}
		again := runOnce(ctx, c, w.plain, w.scale)
		if again.err == nil && len(compare(plain.observations, again.observations)) == 0 {
			return result
		}
		result.Verdict = Unsteady
	}
	return result
}

func (w *worker) judge(c Case, plain, accelerated outcome) Result {
	switch {
	case c.Yields != "":
	case c.Blocking:
		c.Yields = "readers that wait in the kernel may be left to TCP"
	case c.Fresh:
		c.Yields = "a direction that learns sends its first bytes over TCP"
	}
	result := Result{
		Name: c.Name, Verdict: Same, Bulk: c.Bulk, Blocking: c.Blocking, Idle: c.Idle, Yields: c.Yields,
		Plain: plain.observations, Accelerated: accelerated.observations, Carried: accelerated.carried,
		PlainMillis: plain.took.Milliseconds(), AcceleratedMillis: accelerated.took.Milliseconds(),
	}
	if plain.err != nil {
		result.Verdict = Broken
		result.Error = plain.err.Error()
		return result
	}
	if accelerated.err != nil {
		// A failure that never happens on plain TCP is a difference.
		observed := Observation{Name: "run", Value: "broke off: " + accelerated.err.Error()}
		result.Accelerated = append(result.Accelerated, observed)
	}
	result.Unengaged = w.accepted && !w.control && c.Idle == "" && accelerated.carried.Redirected == 0
	result.Differences = compare(plain.observations, result.Accelerated)
	if len(result.Differences) > 0 {
		result.Verdict = Differs
		result.Hangs = hangs(result.Differences)
		result.Loses = loses(result.Differences)
	}
	return result
}
