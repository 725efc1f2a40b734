// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/counting"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// countedTime of a run is long enough for some thousand requests. More would give the same result, because
// the clock counts instructions.
const countedTime = 100 * time.Millisecond

// countedPrograms are the programs whose instructions are counted. Their files on this machine are packed
// into the guest.
var countedPrograms = []string{"redis", "nginx", "proxies"}

// selected are the selected cells.
func (o options) selected() []selection {
	all := programs()
	if !o.instructions {
		return selectCells(all, o)
	}
	all = slices.DeleteFunc(all, func(p program) bool { return !slices.Contains(countedPrograms, p.name) })
	for i := range all {
		all[i].cells = slices.DeleteFunc(all[i].cells, func(c cell) bool {
			return slices.Contains(uncounted, c.name)
		})
		for j := range all[i].cells {
			all[i].cells[j].two, all[i].cells[j].goal = false, 0
		}
	}
	return selectCells(all, o)
}

// uncounted cells have the same results as others.
var uncounted = []string{"nginx 256 keep-alive"}

// instructions of one operation of a run in which the processor was idle for this time.
func (s sample) instructions(idle time.Duration) float64 {
	return counting.Each(time.Duration(float64(s.count)/s.rate*1e9)-idle, float64(s.count))
}

// results are the cells of a successful measurement.
func (m *measurement) results(instructions bool) []result.Cell {
	if !instructions {
		return m.cells()
	}
	c := result.Cell{
		Group: "program", Name: m.cell.name, Measure: "instructions", Unit: counting.Unit + "request",
		Better: result.Lower, CPUs: m.cpus,
		Note: m.cell.note, Samples: map[result.Variant][]float64{},
		Repeats: int(result.Median(m.taken[result.Plain].counts)),
	}
	idle := c
	idle.Measure, idle.Unit, idle.Samples = "idle", "%", map[result.Variant][]float64{}
	for v, t := range m.taken {
		c.Samples[v], idle.Samples[v] = t.counted, t.idle
	}
	if t := m.taken[result.Sockmap]; t != nil {
		c.Share = map[result.Variant]float64{result.Sockmap: t.sent.Share()}
	}
	return []result.Cell{c, idle}
}

// guards that run; none on a bare node.
func (b *bench) guards() ([]string, error) {
	if b.options.bare {
		return nil, nil
	}
	return pods.Guards(b.node)
}
