// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// pace is the length of a measurement.
type pace struct {
	rounds   int
	budget   time.Duration // bounds everything: a slow machine gets fewer rounds
	warm     time.Duration // warm-up of each variant in each round
	time     time.Duration
	busyTime time.Duration // time for measures by the kernel's clock, which is coarse
	flows    int           // flows whose memory is measured
}

var (
	full = pace{
		rounds: 8, budget: 9 * time.Minute, warm: 40 * time.Millisecond, time: 200 * time.Millisecond,
		busyTime: 500 * time.Millisecond, flows: 2000,
	}
	quick = pace{
		rounds: 5, budget: 75 * time.Second, warm: 10 * time.Millisecond, time: 35 * time.Millisecond,
		busyTime: 150 * time.Millisecond, flows: 1000,
	}
)

// work is traffic that is measured for all its variants, one right after the other, in each round. Its
// results are cells: several views on the same traffic.
type work struct {
	group, name string
	cpus        cpus
	variants    []result.Variant
	shares      []result.Variant   // variants whose share of redirected bytes is reported
	before      func(*world) error // each round
	measure     func(*world, result.Variant) (outcome, error)
	views       []view
}

// view is one cell. Either value takes a sample from each variant's outcome, or derive makes samples from all
// of them.
type view struct {
	name    string // instead of the work's
	measure string
	unit    string
	better  result.Better
	base    result.Variant
	goal    float64
	limit   float64
	note    string
	only    []result.Variant // nil: all
	value   func(outcome) float64
	derive  func(map[result.Variant]outcome) map[result.Variant]float64
}

// title is the string that -run matches.
func (w work) title() string {
	if w.cpus == two {
		return w.group + "/" + w.name + ", two CPUs"
	}
	return w.group + "/" + w.name
}

func (w work) cell(v view) result.Cell {
	name := w.name
	if v.name != "" {
		name = v.name
	}
	return result.Cell{
		Group: w.group, Name: name, Measure: v.measure, Unit: v.unit, Better: v.better, CPUs: w.cpus.name,
		Base:    v.base,
		Samples: map[result.Variant][]float64{}, Goal: v.goal, Limit: v.limit, Note: v.note,
	}
}

func (v view) samples(outcomes map[result.Variant]outcome) map[result.Variant]float64 {
	if v.derive != nil {
		return v.derive(outcomes)
	}
	all := map[result.Variant]float64{}
	for variant, o := range outcomes {
		if v.only == nil || slices.Contains(v.only, variant) {
			all[variant] = v.value(o)
		}
	}
	return all
}

// Views on the numbers of the traffic itself.

func p50(o outcome) float64  { return float64(o.client.P50) }
func p99(o outcome) float64  { return float64(o.client.P99) }
func p999(o outcome) float64 { return float64(o.client.P999) }

// rate is the rate of requests or connections. The rate of a stream is that of its reader.
func rate(o outcome) float64   { return o.client.Rate() }
func readAt(o outcome) float64 { return o.server.Rate() }
func value(o outcome) float64  { return o.value }

func latency(measure string, goal float64, value func(outcome) float64) view {
	return view{measure: measure, unit: "ns", better: result.Lower, goal: goal, value: value}
}

func perSecond(measure, unit string, goal float64, value func(outcome) float64) view {
	return view{measure: measure, unit: unit, better: result.Higher, goal: goal, value: value}
}
