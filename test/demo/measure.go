// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/pods"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// cpu runs both ends: a wake-up across CPUs costs more than the whole way through the kernel, and would hide it.
const cpu = 1

const rounds = 3

// scenario is one row of the table.
type scenario struct {
	name    string
	kind    string // rr or stream
	service bool
	args    []string
}

var scenarios = []scenario{
	{"request/response 64 B", "rr", false, []string{"-size", "64", "-count", "12000", "-warmup", "500"}},
	{"  through a service address", "rr", true, []string{"-size", "64", "-count", "12000", "-warmup", "500"}},
	{"request/response 16 KiB", "rr", false, []string{"-size", "16384", "-count", "6000", "-warmup", "500"}},
	{"stream, writes of 64 KiB", "stream", false, []string{"-size", "65536", "-duration", "400ms"}},
	{"  through a service address", "stream", true, []string{"-size", "65536", "-duration", "400ms"}},
}

// result is what one row shows: medians of all rounds.
type result struct {
	scenario
	plain, chained figures
	share          float64 // of the bytes with sockmap, how many were redirected
}

type figures struct {
	p50, p99       time.Duration
	bytesPerSecond float64
}

func measure(ctx context.Context, node *lab.Node, plain, chained *pair) ([]result, error) {
	var results []result
	counted := pods.Pair{Client: chained.client, Server: chained.server}
	for _, s := range scenarios {
		before, err := counted.Sent(node)
		if err != nil {
			return nil, err
		}
		var a, b []figures
		for range rounds {
			for p, into := range map[*pair]*[]figures{plain: &a, chained: &b} {
				f, err := s.run(ctx, p)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
				*into = append(*into, f)
			}
		}
		after, err := counted.Sent(node)
		if err != nil {
			return nil, err
		}
		results = append(results, result{s, median(a), median(b), after.Since(before).Share()})
	}
	return results, nil
}

func (s scenario) run(ctx context.Context, p *pair) (figures, error) {
	addr := p.direct
	if s.service {
		addr = p.service
	}
	r, err := p.client.Measure(ctx, s.kind, addr, cpu, s.args...)
	if err != nil {
		return figures{}, err
	}
	return figuresOf(r), nil
}

func figuresOf(r traffic.Report) (f figures) {
	if r.Latency != nil {
		f.p50, f.p99 = r.Latency.P50, r.Latency.P99
	}
	f.bytesPerSecond = r.BytesPerSecond
	return f
}

// median takes each figure's own, so that one disturbed round spoils none.
func median(all []figures) figures {
	var p50, p99 []time.Duration
	var rate []float64
	for _, f := range all {
		p50, p99, rate = append(p50, f.p50), append(p99, f.p99), append(rate, f.bytesPerSecond)
	}
	slices.Sort(p50)
	slices.Sort(p99)
	slices.Sort(rate)
	mid := len(all) / 2
	return figures{p50[mid], p99[mid], rate[mid]}
}
