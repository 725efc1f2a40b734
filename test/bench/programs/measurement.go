// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/counting"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// Where client and server run.
const (
	same = "same"
	two  = "two"
)

// selection is a program with its selected measurements.
type selection struct {
	program      program
	measurements []*measurement
}

// measurement is a cell on these CPUs, and its samples so far.
type measurement struct {
	cell   cell
	cpus   string
	taken  map[result.Variant]*taken
	failed error // ends it
}

// taken are the samples of one variant.
type taken struct {
	rates, p99s []float64
	counts      []float64
	counted     []float64 // instructions of each operation, if they are counted
	idle        []float64 // percent of the time, if instructions are counted
	last        float64   // rate, including that of the warm-up
	sent        pods.Sent
}

func (m *measurement) String() string { return m.cell.name + " (" + m.cpus + ")" }

// guess is a rate that hardly any program is below. The first run of the warm-up measures the real rate.
const guess = 2000

// warmUp also finds the number of operations for clients that need a number instead of a time.
func (m *measurement) warmUp(ctx context.Context, sides []*side, duration time.Duration) {
	m.taken = map[result.Variant]*taken{}
	for _, s := range sides {
		t := &taken{last: guess}
		m.taken[s.variant] = t
		for range 2 {
			if _, err := m.run(ctx, s, max(min(100*time.Millisecond, duration/2), duration/6)); err != nil {
				m.failed = fmt.Errorf("%s: %w", s.variant, err)
				return
			}
		}
	}
}

// round measures all sides, one right after the other. Another side is first in each round.
func (m *measurement) round(ctx context.Context, sides []*side, round int, duration time.Duration) {
	for i := range sides {
		if m.failed != nil {
			return
		}
		s := sides[(i+round)%len(sides)]
		if err := m.sample(ctx, s, duration); err != nil {
			m.failed = fmt.Errorf("%s, round %d: %w", s.variant, round+1, err)
		}
	}
}

func (m *measurement) sample(ctx context.Context, s *side, duration time.Duration) error {
	before, err := s.pods.Settled(s.bench.node)
	if err != nil {
		return err
	}
	count := counting.None
	if s.bench.options.instructions {
		count = counting.Begin
	}
	done, err := count()
	if err != nil {
		return err
	}
	got, err := m.run(ctx, s, duration)
	if err != nil {
		return err
	}
	work, err := done()
	if err != nil {
		return err
	}
	after, err := s.pods.Settled(s.bench.node)
	if err != nil {
		return err
	}
	t, sent := m.taken[s.variant], after.Since(before)
	t.rates = append(t.rates, got.rate)
	t.counts = append(t.counts, float64(got.count))
	t.idle = append(t.idle, 100*work.Share())
	t.counted = append(t.counted, got.instructions(work.Idle))
	t.sent.Redirected += sent.Redirected
	t.sent.TCP += sent.TCP
	if got.p99 > 0 {
		t.p99s = append(t.p99s, float64(got.p99.Nanoseconds()))
	}
	return nil
}

func (m *measurement) run(ctx context.Context, s *side, duration time.Duration) (sample, error) {
	t := m.taken[s.variant]
	l := load{cpu: serverCPU, duration: duration, count: max(100, int(t.last*duration.Seconds()))}
	if m.cpus == two {
		l.cpu = otherCPU
	}
	// Clients end themselves. This bounds those that wait for an answer for ever.
	ctx, cancel := context.WithTimeout(ctx, 10*duration+20*time.Second)
	defer cancel()
	got, err := m.cell.client(ctx, s, l)
	if err == nil && got.rate <= 0 {
		err = fmt.Errorf("a rate of %v is none", got.rate)
	}
	if err != nil {
		return got, err
	}
	t.last = got.rate
	return got, nil
}

// cells are the rate, and p99 if the tool reports it.
func (m *measurement) cells() []result.Cell {
	rate := result.Cell{
		Group: "program", Name: m.cell.name, Measure: "rate", Unit: "1/s", Better: result.Higher, CPUs: m.cpus,
		Note:    m.cell.note,
		Samples: map[result.Variant][]float64{}, Share: map[result.Variant]float64{},
	}
	if m.cpus == same {
		rate.Goal = m.cell.goal
	}
	p99 := rate
	p99.Measure, p99.Unit, p99.Better, p99.Goal = "p99", "ns", result.Lower, 0
	p99.Samples = map[result.Variant][]float64{}
	for v, t := range m.taken {
		rate.Samples[v] = t.rates
		if len(t.p99s) == len(t.rates) {
			p99.Samples[v] = t.p99s
		}
	}
	rate.Share[result.Sockmap] = m.taken[result.Sockmap].sent.Share()
	rate.Repeats = int(result.Median(m.taken[result.Plain].counts))
	p99.Repeats = rate.Repeats
	if len(p99.Samples) < len(m.taken) {
		return []result.Cell{rate}
	}
	return []result.Cell{rate, p99}
}
