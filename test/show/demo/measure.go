// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/ratio"
	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// cpu runs both ends; with otherCPU for the client, it runs the server. It is the same as in the micro
// benchmarks.
const (
	cpu      = 1
	otherCPU = 0
)

const (
	rounds = 5
	warm   = 30 * time.Millisecond
	each   = 150 * time.Millisecond
)

// scenario is one row of the table. Package wire documents its traffic.
type scenario struct {
	name    string
	kind    wire.Kind
	size    int
	service bool
	two     bool // CPUs
}

var scenarios = []scenario{
	{"request/response 64 B", wire.Requests, 64, false, false},
	{"  through a service address", wire.Requests, 64, true, false},
	{"request/response 16 KiB", wire.Requests, 16 << 10, false, false},
	{"stream, writes of 64 KiB", wire.Stream, 64 << 10, false, false},
	{"  through a service address", wire.Stream, 64 << 10, true, false},
	{"  with a CPU for each end", wire.Stream, 64 << 10, false, true},
	{"stream, writes of 64 B", wire.Stream, 64, false, false},
}

// result is the content of one row.
type result struct {
	scenario
	plain, chained figures
	share          float64 // redirected share of the bytes with sockmap
}

// figures have one number for each round.
type figures struct{ p50, p99, bytesPerSecond []float64 }

func measure(node *lab.Node, plain, chained *pair) ([]result, error) {
	var results []result
	counted := pods.Pair{Client: chained.client, Server: chained.server}
	for _, s := range scenarios {
		before, err := counted.Settled(node)
		if err != nil {
			return nil, err
		}
		r := result{scenario: s}
		for round := range rounds {
			if err := r.round(round, plain, chained); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		after, err := counted.Settled(node)
		if err != nil {
			return nil, err
		}
		r.share = after.Since(before).Share()
		results = append(results, r)
	}
	return results, nil
}

// round measures both pairs, one right after the other. The order changes from round to round.
func (r *result) round(round int, plain, chained *pair) error {
	pairs, into := []*pair{plain, chained}, []*figures{&r.plain, &r.chained}
	for i := range pairs {
		which := (i + round) % len(pairs)
		if err := r.run(pairs[which], into[which]); err != nil {
			return err
		}
	}
	return nil
}

func (s scenario) run(p *pair, into *figures) error {
	o := wire.Order{Kind: s.kind, Addr: p.direct.String(), Size: s.size, Warm: warm, Time: each,
		Congestion: "cubic"}
	if s.service {
		o.Via = p.service.String()
	}
	clientCPU := cpu
	if s.two {
		clientCPU = otherCPU
	}
	client, server, err := wire.Talk(p.asking, p.answering, o, clientCPU, cpu, nil)
	if err != nil {
		return err
	}
	if server.Got != client.Sent || client.Got != server.Sent {
		return fmt.Errorf("of %d bytes %d arrived, and of %d answered %d", client.Sent, server.Got, server.Sent,
			client.Got)
	}
	into.p50 = append(into.p50, float64(client.P50))
	into.p99 = append(into.p99, float64(client.P99))
	into.bytesPerSecond = append(into.bytesPerSecond, server.Rate())
	return nil
}

// ratio is the ratio of p50, or of a stream's rate.
func (r result) ratio() ratio.Ratio {
	base, other := r.plain.bytesPerSecond, r.chained.bytesPerSecond
	if r.kind == wire.Requests {
		base, other = r.plain.p50, r.chained.p50
	}
	of, _ := ratio.Of(ratio.Rounds(base, other, r.kind == wire.Requests))
	return of
}

// Ports of a pair's server, and of the server behind its service address.
const (
	measuredPort = 8081
	checkedPort  = 8080
)

func service(index byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, index + 1}), port)
}
