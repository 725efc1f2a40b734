// SPDX-License-Identifier: Apache-2.0

// Package bench measures on this node what redirecting gives: the same traffic between two network namespaces, plain and
// accelerated, in turn. All of it is its own: programs, cgroups, namespaces; nothing else on the node changes.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// Kind of traffic.
type Kind string

// The kinds of traffic: a request and an answer of the same size in turn, or writes as fast as the reader reads.
const (
	Requests Kind = "requests"
	Stream   Kind = "stream"
)

// Case is one kind of traffic with one size of message.
type Case struct {
	Kind  Kind
	Bytes int // of each message
}

// WasRedirected tells whether what was measured is what redirecting does: of streams a part is enough, of
// requests all but one message of each round. The first answer of a connection goes by TCP where the kernel
// does not tell how its client receives (reason early).
func (c Case) WasRedirected(sent, redirected uint64) bool {
	if c.Kind == Requests {
		return redirected > 0 && redirected+Rounds*uint64(c.Bytes) >= sent
	}
	return redirected > 0
}

// Cases are those that Run measures.
func Cases() []Case { return []Case{{Requests, 64}, {Requests, 16 << 10}, {Stream, 64 << 10}} }

// Rounds is how often each case is measured on each side.
const Rounds = 5

// Options of Run.
type Options struct {
	Duration time.Duration // of all traffic together
	CPU      int           // both ends run there
	Settings datapath.Settings
}

// Result of one case: one number for each round. Of requests it is the median time of a request and its answer in
// nanoseconds, of streams bytes per second.
type Result struct {
	Case
	Plain, Accelerated []float64
	Sent, Redirected   uint64 // bytes on the accelerated side
}

// Run measures. The process must have begun with Main.
func Run(ctx context.Context, o Options) (results []Result, err error) {
	// Guards that trace run for the whole node, and this traffic needs none: it only reads and writes.
	o.Settings.WithoutGuards = datapath.Guards[:]
	err = endpoint.Privately(o.Settings, func(d *datapath.Datapath) error {
		results, err = run(ctx, o, d)
		return err
	})
	if ctx.Err() != nil { // what an interruption has broken is not the reason
		err = ctx.Err()
	}
	return results, err
}

func run(ctx context.Context, o Options, d *datapath.Datapath) (results []Result, err error) {
	places, err := makePlaces(2)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, places.remove()) }()
	plain, err := startSide(ctx, places.dirs[0], o.CPU)
	if err != nil {
		return nil, err
	}
	defer plain.stop()
	if err := attach(d, places.dirs[1]); err != nil {
		return nil, err
	}
	accelerated, err := startSide(ctx, places.dirs[1], o.CPU)
	if err != nil {
		return nil, err
	}
	defer accelerated.stop()
	each := o.Duration / time.Duration(2*Rounds*len(Cases()))
	for _, c := range Cases() {
		results = append(results, Result{Case: c})
	}
	for range Rounds {
		for i := range results {
			if err := results[i].round(d, plain, accelerated, each); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

func attach(d *datapath.Datapath, dir *os.File) error {
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	_, err = d.Attach(dir, datapath.LinkKey{CgroupID: inode(info), Manual: true})
	return err
}

// round measures one case once on each side.
func (r *Result) round(d *datapath.Datapath, plain, accelerated *side, each time.Duration) error {
	p, err := plain.measure(r.Case, each)
	if err != nil {
		return fmt.Errorf("measure plain TCP: %w", err)
	}
	before, err := sums(d)
	if err != nil {
		return err
	}
	a, err := accelerated.measure(r.Case, each)
	if err != nil {
		return fmt.Errorf("measure accelerated: %w", err)
	}
	redirected, err := settled(d, before, a.Sent)
	if err != nil {
		return err
	}
	r.Plain, r.Accelerated = append(r.Plain, p.Value), append(r.Accelerated, a.Value)
	r.Sent += a.Sent
	r.Redirected += redirected
	return nil
}

// settled waits until the sockets of a measurement have closed, so that all they sent is in the sums.
func settled(d *datapath.Datapath, before traffic, sent uint64) (redirected uint64, err error) {
	for range 200 {
		now, err := sums(d)
		if err != nil {
			return 0, err
		}
		redirected = now.redirected - before.redirected
		if redirected+now.tcp-before.tcp >= sent {
			return redirected, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return redirected, nil // what is missing counts as not redirected
}

type traffic struct{ redirected, tcp uint64 }

func sums(d *datapath.Datapath) (sum traffic, err error) {
	all, err := d.Totals()
	for _, t := range all {
		sum.redirected += t.RedirectedBytes
		sum.tcp += t.TCPBytes
	}
	return sum, err
}

// Median of an odd number of values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// Spread is how far the values are apart, as a share of their median.
func Spread(values []float64) float64 {
	if m := Median(values); m > 0 {
		return (slices.Max(values) - slices.Min(values)) / m
	}
	return 0
}
