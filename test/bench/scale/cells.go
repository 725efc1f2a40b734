// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

const (
	setUpFlows  = 10_000
	setUpGoal   = 0.95    // ratio of the rate of connections
	driftGoal   = 1 / 1.1 // ratio of the median: 10 % more at most
	memoryLimit = 2 << 10 // bytes of both ends of a flow
)

type byVariant map[result.Variant][]float64

// each takes one number of every round.
func each(rounds map[result.Variant][]measured, of func(measured) float64) byVariant {
	all := byVariant{}
	for v, list := range rounds {
		for _, m := range list {
			all[v] = append(all[v], of(m))
		}
	}
	return all
}

func (l level) cells(rounds map[result.Variant][]measured, note string) (cells []result.Cell) {
	ours := map[result.Variant][]measured{result.Sockmap: rounds[result.Sockmap]}
	share := map[result.Variant]float64{result.Sockmap: result.Median(each(ours, func(m measured) float64 {
		return m.share
	})[result.Sockmap])}
	for _, p := range []struct {
		measure string
		of      func(latencies) float64
	}{{"p50", func(l latencies) float64 { return l.p50 }}, {"p99", func(l latencies) float64 { return l.p99 }}} {
		among := each(rounds, func(m measured) float64 { return p.of(m.among) })
		none := each(rounds, func(m measured) float64 { return p.of(m.none) })
		against := l.cell("64 B request", p.measure, "ns", result.Lower, among)
		drift := l.cell("64 B request", p.measure, "ns", result.Lower,
			byVariant{None: none[result.Sockmap], result.Sockmap: among[result.Sockmap]})
		drift.Base = None
		drift.Note = fmt.Sprintf("%s is the mean of before and after; plain TCP went from %s to %s", None,
			result.Show(result.Median(none[result.Plain]), "ns"),
			result.Show(result.Median(among[result.Plain]), "ns"))
		if l.last && p.measure == "p50" {
			drift.Goal = driftGoal
		}
		against.Share, drift.Share = share, share
		against.CPUs, drift.CPUs = "same", "same"
		against.Repeats, drift.Repeats = l.requests, l.requests
		cells = append(cells, against, drift)
	}
	setUp := l.cell("set-up", "rate", "1/s", result.Higher,
		each(rounds, func(m measured) float64 { return m.rate }))
	setUp.CPUs, setUp.Repeats = "same", l.flows
	if l.flows == setUpFlows {
		setUp.Goal = setUpGoal
	}
	setUp.Note = l.setUpNote(rounds[result.Sockmap])
	cells = append(cells, setUp)
	cells = append(cells, l.memoryCells(rounds)...)
	for _, c := range []struct {
		what string
		of   func(measured) time.Duration
	}{
		{"sockmapctl flows -o json", func(m measured) time.Duration { return m.list }},
		{"sockmapctl flows", func(m measured) time.Duration { return m.table }},
		{"sockmapctl metrics", func(m measured) time.Duration { return m.scrape }},
	} {
		one := l.cell(c.what, "time", "ns", result.Lower,
			each(ours, func(m measured) float64 { return float64(c.of(m)) }))
		one.Note = "the whole process"
		cells = append(cells, one)
	}
	for i := range cells {
		cells[i].Note = strings.TrimPrefix(strings.Join([]string{cells[i].Note, note}, "; "), "; ")
		cells[i].Note = strings.TrimSuffix(cells[i].Note, "; ")
	}
	return cells
}

func (l level) cell(what, measure, unit string, better result.Better, samples byVariant) result.Cell {
	return result.Cell{
		Group: "scale", Name: l.name() + ", " + what, Measure: measure, Unit: unit, Better: better,
		Samples: samples,
	}
}

func (l level) setUpNote(ours []measured) string {
	if len(ours) == 0 {
		return ""
	}
	joined := 1.0
	for _, m := range ours {
		joined = min(joined, m.joined)
	}
	return fmt.Sprintf("one after the other, by %d processes on one CPU, until all are accepted; at least %.2f %% of the ends were paired",
		ours[0].processes, 100*joined)
}

func (l level) memoryCells(rounds map[result.Variant][]measured) []result.Cell {
	all := each(rounds, func(m measured) float64 { return m.memory })
	taken := l.cell("kernel memory", "memory", "B/flow", result.Lower, all)
	taken.Note = "both ends; what /proc/meminfo has for slabs, per CPU and virtual memory"
	var more []float64
	for i := range min(len(all[result.Sockmap]), len(all[result.Plain])) {
		more = append(more, all[result.Sockmap][i]-all[result.Plain][i])
	}
	beyond := l.cell("kernel memory beyond plain", "memory", "B/flow", result.Lower,
		byVariant{result.Sockmap: more})
	beyond.Note = "both ends; without what the maps take from the load on"
	if l.last {
		beyond.Limit = memoryLimit
	}
	ours := map[result.Variant][]measured{result.Sockmap: rounds[result.Sockmap]}
	empty := l.cell("maps while there is no flow", "memory", "B", result.Lower,
		each(ours, func(m measured) float64 { return m.mapsOfNone }))
	empty.Note = fmt.Sprintf("with maxSockets %d", l.maxSockets())
	filled := l.cell("maps with all flows", "memory", "B", result.Lower,
		each(ours, func(m measured) float64 { return m.mapsOfAll }))
	filled.Note = empty.Note
	return []result.Cell{taken, beyond, empty, filled}
}
