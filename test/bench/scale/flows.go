// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// None is the variant of sockmap without idle flows on the node, measured just before they are made and just
// after they are closed.
const None result.Variant = "no idle flows"

// level is a number of idle flows between two containers.
type level struct {
	flows, rounds int
	requests      int  // requests of each measurement of latency
	last          bool // the goals are for this level
}

func (l level) name() string {
	if l.flows%1000 == 0 {
		return fmt.Sprintf("%dk flows", l.flows/1000)
	}
	return fmt.Sprintf("%d flows", l.flows)
}

// maxSockets is more than needed: the table of pairs evicts a little before it is full.
func (l level) maxSockets() int { return l.flows*5/2 + 1024 }

// measured is the result of one round for one variant.
type measured struct {
	none, among latencies
	rate        float64 // connections/s
	memory      float64 // B/flow
	share       float64 // redirected share of the bytes of the requests
	joined      float64 // paired share of the idle flows' ends, which would be redirected
	list, table time.Duration
	scrape      time.Duration
	mapsOfAll   float64 // B, with the flows
	mapsOfNone  float64 // B
	processes   int
}

type latencies struct{ p50, p99 float64 }

func (l level) measure(ctx context.Context, s *suite) (cells []result.Cell, err error) {
	l, note, err := l.possible()
	if err != nil {
		return nil, err
	}
	node, err := pods.Node(ctx, &s.log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	room := map[string]any{"maxSockets": l.maxSockets()}
	var sides []*side
	for i, v := range []result.Variant{result.Plain, result.Sockmap} {
		sd, err := openSide(ctx, node, v, byte(i), l.flows, s.cpu, room)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, sd.close()) }()
		sides = append(sides, sd)
	}
	rounds := map[result.Variant][]measured{}
	for round := range l.rounds {
		for k := range sides {
			sd := sides[(k+round)%len(sides)]
			m, err := sd.round(ctx, l)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sd.variant, err)
			}
			rounds[sd.variant] = append(rounds[sd.variant], m)
		}
	}
	return l.cells(rounds, note), nil
}

// round opens the idle flows in the side and closes them again.
func (sd *side) round(ctx context.Context, l level) (m measured, err error) {
	before, err := sd.ask(ctx, l.requests)
	if err != nil {
		return m, err
	}
	empty, err := readMemory()
	if err != nil {
		return m, err
	}
	if m.mapsOfNone, err = sd.maps(); err != nil {
		return m, err
	}
	took, err := sd.crowd.Connect(l.flows)
	if err != nil {
		return m, err
	}
	m.rate, m.processes = float64(l.flows)/took.Seconds(), sd.crowd.Processes()
	if err := calm(ctx); err != nil {
		return m, err
	}
	filled, err := readMemory()
	if err != nil {
		return m, err
	}
	m.memory = (filled.sum() - empty.sum()) / float64(l.flows)
	sent, err := sd.pair.Sent(sd.node)
	if err != nil {
		return m, err
	}
	if m.among, err = sd.ask(ctx, l.requests); err != nil {
		return m, err
	}
	if sd.variant == result.Sockmap {
		if err := sd.look(ctx, l, sent, &m); err != nil {
			return m, err
		}
	}
	if err := sd.crowd.Hangup(); err != nil {
		return m, err
	}
	if err := calm(ctx); err != nil {
		return m, err
	}
	after, err := sd.ask(ctx, l.requests)
	m.none = latencies{(before.p50 + after.p50) / 2, (before.p99 + after.p99) / 2}
	return m, err
}

// look measures what only sockmap has.
func (sd *side) look(ctx context.Context, l level, before pods.Sent, m *measured) error {
	now, err := sd.pair.Sent(sd.node)
	if err != nil {
		return err
	}
	m.share = now.Since(before).Share()
	if m.joined, err = sd.joined(l.flows); err != nil {
		return err
	}
	if m.mapsOfAll, err = sd.maps(); err != nil {
		return err
	}
	for _, c := range []struct {
		into *time.Duration
		args []string
	}{{&m.list, []string{"flows", "-o", "json"}}, {&m.table, []string{"flows"}},
		{&m.scrape, []string{"metrics"}}} {
		if *c.into, err = sockmapctl(ctx, sd.node, c.args...); err != nil {
			return err
		}
	}
	return nil
}

// calm is the time in which the kernel frees, or settles, what it does with a delay.
func calm(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(300 * time.Millisecond):
		return nil
	}
}

// sockmapctl runs the program in the node's network namespace and returns the time.
func sockmapctl(ctx context.Context, node *lab.Node, args ...string) (time.Duration, error) {
	args = append([]string{"--bpffs-path", node.BPFFS()}, args...)
	return timed(node.Command(ctx, node.Bin()+"/sockmapctl", args...), node.Start)
}
