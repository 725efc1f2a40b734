// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// tolerated failures of one work: a third failure ends it. A round in which one variant fails does not count.
const tolerated = 2

// progress of one work.
type progress struct {
	work
	cells            []result.Cell
	counts           []float64 // operations, by round
	redirected, sent map[result.Variant]uint64
	failures         []string
}

func begin(works []work) (all []*progress) {
	for _, w := range works {
		p := &progress{work: w, redirected: map[result.Variant]uint64{}, sent: map[result.Variant]uint64{}}
		for _, v := range w.views {
			p.cells = append(p.cells, w.cell(v))
		}
		all = append(all, p)
	}
	return all
}

// limit bounds a run: by a number of rounds, and by a budget (0 for none). After the first, no round starts
// that would probably end after the budget. A round that takes longer than expected is cut off.
type limit struct {
	rounds  int
	started time.Time
	budget  time.Duration
}

// reached is called after each round, with the time at which the first began.
func (l limit) reached(done int, first time.Time) bool {
	each := time.Since(first) / time.Duration(done)
	return done >= l.rounds || l.over(each)
}

func (l limit) over(more time.Duration) bool {
	return l.budget > 0 && time.Since(l.started)+more > l.budget
}

// measureAll measures all works once in each round, so that changes on the machine affect all of them.
func measureAll(ctx context.Context, w *world, works []work, l limit, log io.Writer) ([]result.Cell, error) {
	all := begin(works)
	first := time.Now()
	for round := 0; ; round++ {
		for _, p := range all {
			if err := context.Cause(ctx); err != nil {
				return nil, err
			}
			if len(p.failures) > tolerated || round > 0 && l.over(0) {
				continue
			}
			if err := p.round(w, round); err != nil {
				return nil, fmt.Errorf("%s: %w", p.title(), err)
			}
		}
		fmt.Fprintf(log, "round %d of %d, %v\n", round+1, l.rounds, time.Since(first).Round(time.Second))
		if l.reached(round+1, first) {
			break
		}
	}
	var cells []result.Cell
	for _, p := range all {
		for _, f := range p.failures {
			fmt.Fprintf(log, "%s: %s\n", p.title(), f)
		}
		cells = append(cells, p.finish()...)
	}
	return cells, nil
}

// round measures each variant once.
func (p *progress) round(w *world, round int) error {
	if p.before != nil {
		if err := p.before(w); err != nil {
			return err
		}
	}
	outcomes := map[result.Variant]outcome{}
	for _, v := range order(p.variants, round) {
		out, err := p.measure(w, v)
		if errors.Is(err, wire.ErrBroken) {
			return fmt.Errorf("%s: %w", v, err)
		}
		if err != nil {
			p.failures = append(p.failures, fmt.Sprintf("round %d, %s: %v", round+1, v, err))
			return nil
		}
		outcomes[v] = out
	}
	p.add(outcomes)
	return nil
}

// order is a Williams design: zigzag rows, each shifted by one. After as many rounds as there are variants,
// or twice as many for an odd number, each variant has directly followed each other one equally often.
func order(variants []result.Variant, round int) (row []result.Variant) {
	n := len(variants)
	for i := range n {
		step := (i + 1) / 2
		if i%2 == 0 {
			step = n - step
		}
		row = append(row, variants[(step+round)%n])
	}
	if round/n%2 == 1 {
		slices.Reverse(row)
	}
	return row
}

func (p *progress) add(outcomes map[result.Variant]outcome) {
	for i, v := range p.views {
		for variant, sample := range v.samples(outcomes) {
			p.cells[i].Samples[variant] = append(p.cells[i].Samples[variant], sample)
		}
	}
	for variant, o := range outcomes {
		p.redirected[variant] += o.redirected
		p.sent[variant] += o.sent
		p.counts = append(p.counts, float64(max(o.client.Count, o.server.Count)))
	}
}

// finish sets the fields that are known only at the end.
func (p *progress) finish() []result.Cell {
	shares := map[result.Variant]float64{}
	for _, v := range p.shares {
		if p.sent[v] > 0 {
			shares[v] = float64(p.redirected[v]) / float64(p.sent[v])
		}
	}
	for i := range p.cells {
		c := &p.cells[i]
		if len(shares) > 0 {
			c.Share = maps.Clone(shares)
		}
		c.Repeats = int(result.Median(p.counts))
		notes := p.failures
		if c.Note != "" {
			notes = slices.Concat([]string{c.Note}, notes)
		}
		c.Note = strings.Join(notes, "; ")
	}
	return p.cells
}
