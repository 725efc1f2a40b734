// SPDX-License-Identifier: Apache-2.0

// Package bench measures on this node what redirecting gives and what the guards cost: the same traffic
// between two containers, plain and accelerated, in turn. All of it is its own (programs, cgroups,
// namespaces), but guards that trace run for the whole node while it measures. What a request and a stream
// are is defined in the package wire, what a ratio is in the package ratio.
package bench

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/ratio"
	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// Case is one kind of traffic with one size of message.
type Case struct {
	Kind    wire.Kind // Requests or Stream
	Bytes   int       // of each request and each answer, or of each write
	TwoCPUs bool      // each end has its own; else both share one
}

// WasRedirected reports whether a measurement of requests shows the effect of redirection: at least nine
// tenths of the bytes were redirected. The first messages of a connection use TCP, because it is not known
// yet how its ends receive. Streams may stay on TCP by design.
func (c Case) WasRedirected(sent, redirected uint64) bool {
	return c.Kind == wire.Stream || redirected > 0 && redirected >= sent/10*9
}

// Cases are the cases that Run measures if there are two CPUs.
func Cases() (all []Case) {
	for _, two := range []bool{false, true} {
		all = append(all, Case{wire.Requests, 64, two}, Case{wire.Requests, 16 << 10, two},
			Case{wire.Stream, 64, two}, Case{wire.Stream, 1 << 10, two}, Case{wire.Stream, 64 << 10, two})
	}
	return all
}

// guardCases are also measured without guards: the case with the most calls, and the case with the most
// bytes.
var guardCases = []Case{{Kind: wire.Requests, Bytes: 64}, {Kind: wire.Stream, Bytes: 64},
	{Kind: wire.Stream, Bytes: 64 << 10}}

// Rounds is the number of measurements of each case on each side.
const Rounds = 7

// Options of Run.
type Options struct {
	Duration time.Duration // of all traffic together
	CPU      int           // of both ends, and of the end that answers or reads where there are two
	OtherCPU int           // of the end that asks or writes; -1: there are no two CPUs
	Settings datapath.Settings
}

// Result of one case: one number for each round. For requests it is the median time of a request and its
// answer in nanoseconds, for streams bytes per second.
type Result struct {
	Case
	Plain, Accelerated []float64
	Sent, Redirected   uint64 // bytes on the accelerated side
}

// Ratio is how many times better accelerated is.
func (r Result) Ratio() ratio.Ratio { return r.compare(r.Plain, r.Accelerated) }

// compare returns a ratio of 0 if there are no rounds.
func (c Case) compare(base, other []float64) ratio.Ratio {
	r, _ := ratio.Of(ratio.Rounds(base, other, c.Kind == wire.Requests))
	return r
}

// GuardCost is the cost of all guards together for one case, of accelerated connections, or of plain ones on
// the same node.
type GuardCost struct {
	Case
	Accelerated   bool
	With, Without []float64 // as in Result
}

// Ratio is how many times better the case is with guards than without. A value below 1 is their cost.
func (c GuardCost) Ratio() ratio.Ratio { return c.compare(c.Without, c.With) }

// Report is the result of Run.
type Report struct {
	Results    []Result
	Guards     []datapath.GuardState
	Costs      []GuardCost // none where no guard runs
	Unfiltered string      // why packets did not pass the packet filter; empty: they did
	// Congestion control of TCP that was used, and that the node has by default.
	Congestion, NodeCongestion string
}

// Run measures. The process must have called Main at its start.
func Run(ctx context.Context, o Options) (r Report, err error) {
	err = withBench(ctx, o, func(b *bench) error {
		for round := range Rounds {
			if err := b.round(round); err != nil {
				return err
			}
		}
		r = b.report
		return nil
	})
	if ctx.Err() != nil { // after an interruption, other errors are not the reason
		err = ctx.Err()
	}
	return r, err
}

// round measures everything once with the guards that this kernel accepts, as the plugin loads them, and
// guardCases also without guards. The order changes from round to round.
func (b *bench) round(round int) error {
	phases := []func(round int) error{b.withGuards, b.withoutGuards}
	if round%2 == 1 {
		phases[0], phases[1] = phases[1], phases[0]
	}
	for _, phase := range phases {
		if err := phase(round); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) withGuards(round int) error {
	return b.load(nil, func(d *datapath.Datapath) (err error) {
		if b.report.Guards, err = d.GuardStates(); err != nil {
			return err
		}
		if round == 0 {
			b.begin()
		}
		for _, i := range b.guardCasesFirst() {
			r := &b.report.Results[i]
			err := b.both(d, round, r.Case, func(plain, accelerated sample) {
				r.add(plain, accelerated)
				for j := range b.report.Costs {
					b.report.Costs[j].addWith(r.Case, plain.value, accelerated.value)
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// guardCasesFirst returns the results in the order of measuring. Both ways to load begin with the same cases,
// so that measurements right after a load are only compared with each other.
func (b *bench) guardCasesFirst() (first []int) {
	var later []int
	for i, r := range b.report.Results {
		if slices.Contains(guardCases, r.Case) {
			first = append(first, i)
		} else {
			later = append(later, i)
		}
	}
	return append(first, later...)
}

func (b *bench) withoutGuards(round int) error {
	if len(b.report.Costs) == 0 {
		return nil
	}
	return b.load(datapath.Guards[:], func(d *datapath.Datapath) error {
		for _, c := range guardCases {
			err := b.both(d, round, c, func(plain, accelerated sample) {
				for i := range b.report.Costs {
					b.report.Costs[i].addWithout(c, plain.value, accelerated.value)
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// begin allocates the results, after it is known which guards run.
func (b *bench) begin() {
	for _, c := range b.cases() {
		b.report.Results = append(b.report.Results, Result{Case: c})
	}
	runs := false
	for _, g := range b.report.Guards {
		runs = runs || g.Active
	}
	for _, c := range guardCases {
		if runs {
			b.report.Costs = append(b.report.Costs, GuardCost{Case: c}, GuardCost{Case: c, Accelerated: true})
		}
	}
}

func (r *Result) add(plain, accelerated sample) {
	r.Plain, r.Accelerated = append(r.Plain, plain.value), append(r.Accelerated, accelerated.value)
	r.Sent += accelerated.sent
	r.Redirected += accelerated.redirected
}

// addWith and addWithout add the value of a round if it is of this case.
func (c *GuardCost) addWith(of Case, plain, accelerated float64) {
	if of == c.Case {
		c.With = append(c.With, c.pick(plain, accelerated))
	}
}

func (c *GuardCost) addWithout(of Case, plain, accelerated float64) {
	if of == c.Case {
		c.Without = append(c.Without, c.pick(plain, accelerated))
	}
}

func (c *GuardCost) pick(plain, accelerated float64) float64 {
	if c.Accelerated {
		return accelerated
	}
	return plain
}

// load loads the data path for f, attached to the accelerated side.
func (b *bench) load(without []string, f func(*datapath.Datapath) error) error {
	s := b.Settings
	s.WithoutGuards = without
	return endpoint.LoadPrivately(s, func(d *datapath.Datapath) error {
		if err := attach(d, b.places.dirs[1]); err != nil {
			return err
		}
		return f(d)
	})
}

func attach(d *datapath.Datapath, dir *os.File) error {
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	_, err = d.Attach(dir, datapath.LinkKey{CgroupID: inode(info), Manual: true})
	return err
}
