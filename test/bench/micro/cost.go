// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

const busyNote = "what is not idle in /proc/stat, all CPUs, less what the quiet machine used just before: interrupts and kernel threads are in it"

func cpuTime(p pace) []work {
	variants := []result.Variant{result.Plain, result.Sockmap, result.Unix}
	request := wire.Order{Kind: wire.Requests, Size: 64, Warm: p.warm, Time: p.busyTime, Busy: true}
	bulk := wire.Order{Kind: wire.Stream, Size: 64 << 10, Warm: p.warm, Time: p.busyTime, Busy: true}
	quiet := new(float64) // share of one CPU that was busy with something else
	before := func(*world) (err error) { *quiet, err = quietLoad(p.busyTime); return err }
	spending := func(name, unit string, goal float64, o wire.Order, side func(outcome) wire.Answer) work {
		return work{
			group: "cpu", name: name, cpus: same, variants: variants, shares: []result.Variant{result.Sockmap},
			before: before,
			measure: func(w *world, v result.Variant) (outcome, error) {
				out, err := w.slot(w.routes[v], v, o, same, nil)
				if err != nil {
					return out, err
				}
				if out.value = spent(side(out), *quiet); out.value <= 0 {
					err = errors.New("the machine was busier before the traffic than with it")
				}
				return out, err
			},
			views: []view{{measure: "cpu", unit: unit, better: result.Lower, goal: goal, note: busyNote,
				value: value}},
		}
	}
	return []work{
		spending("64 B", "ns/request", 2, request, func(o outcome) wire.Answer { return o.client }),
		spending("stream of 64 KiB", "ns/B", 0, bulk, func(o outcome) wire.Answer { return o.server }),
	}
}

// quietLoad is the load of the machine without traffic: 1 is one CPU.
func quietLoad(d time.Duration) (float64, error) {
	since, err := wire.Busy()
	if err != nil {
		return 0, err
	}
	time.Sleep(d)
	busy, elapsed, err := since()
	return max(0, busy.Seconds()/elapsed.Seconds()), err
}

func spent(a wire.Answer, quiet float64) float64 {
	return (float64(a.Busy) - quiet*float64(a.Elapsed)) / max(1, float64(a.Count))
}

func verdictTime(p pace) []work {
	o := wire.Order{Kind: wire.Requests, Size: 64, Warm: p.warm, Time: p.time}
	runTime := view{
		measure: "run time", unit: "ns", better: result.Lower, base: result.Classic, value: value,
		note: "of the program, for each message, by the kernel's own clock, whose cost is in it",
	}
	beyond := view{
		name: "64 B, beyond a bare redirect", measure: "run time", unit: "ns", better: result.Lower,
		base: result.Classic, limit: 60,
		note:   "the verdict's less that of the classic sample's, which redirects and nothing else",
		derive: difference(result.Sockmap, result.Classic),
	}
	return []work{{
		group: "verdict", name: "64 B", cpus: same, variants: []result.Variant{result.Sockmap, result.Classic},
		shares: []result.Variant{result.Sockmap, result.Classic},
		measure: func(w *world, v result.Variant) (outcome, error) {
			var out outcome
			nanos, err := w.timed(v, func() (err error) {
				out, err = w.slot(w.routes[v], v, o, same, nil)
				return err
			})
			out.value = nanos
			return out, err
		},
		views: []view{runTime, beyond},
	}}
}

// difference gives a cell samples of one variant only: what it has beyond the other variant.
func difference(of, beyond result.Variant) func(map[result.Variant]outcome) map[result.Variant]float64 {
	return func(o map[result.Variant]outcome) map[result.Variant]float64 {
		return map[result.Variant]float64{of: o[of].value - o[beyond].value}
	}
}

// timed is the time of each run of a verdict while f ran, with the kernel's clock in every program.
func (w *world) timed(v result.Variant, f func() error) (nanos float64, err error) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return 0, fmt.Errorf("turn on run times: %w", err)
	}
	defer func() { err = errors.Join(err, stats.Close()) }()
	count, total, err := w.runs(v)
	if err == nil {
		err = f()
	}
	if err != nil {
		return 0, err
	}
	countAfter, totalAfter, err := w.runs(v)
	if err == nil && countAfter == count {
		err = errors.New("the verdict has not run")
	}
	return float64(totalAfter-total) / float64(max(1, countAfter-count)), err
}

func (w *world) runs(v result.Variant) (uint64, time.Duration, error) {
	if v == result.Classic {
		return w.old.Runs()
	}
	stats, err := w.verdict.Stats()
	if err != nil {
		return 0, 0, fmt.Errorf("read the run time of the verdict: %w", err)
	}
	return stats.RunCount, stats.Runtime, nil
}
