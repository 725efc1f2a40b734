// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"slices"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// bar is a ratio against plain; one without a name is the heading of those that follow.
type bar struct {
	heading string
	label   string
	ratio   cells.Compared
	goal    float64
}

// bars are all programs by what is measured of them first, and of the other groups what has a goal. What is compared with something else than plain TCP
// is left out: one line at 1 cannot mean two things.
func bars(groups []cells.Group) (all []bar) {
	slices.SortStableFunc(groups, func(a, b cells.Group) int { return programsFirst(a) - programsFirst(b) })
	for _, g := range groups {
		begun := false
		for _, c := range g.Cells {
			r, ok := cells.Compare(c, result.Sockmap)
			if !ok || c.ComparedWith() != result.Plain || c.Goal == 0 && !leading(g, c) {
				continue
			}
			if !begun {
				all = append(all, bar{heading: g.Title})
				begun = true
			}
			all = append(all, bar{label: barLabel(c), ratio: r, goal: c.Goal})
		}
	}
	return all
}

// leading: of a program, and not one more measure of what is there already.
func leading(g cells.Group, c result.Cell) bool {
	first := slices.IndexFunc(g.Cells, func(o result.Cell) bool { return o.Name == c.Name && o.CPUs == c.CPUs })
	return g.Name == "program" && g.Cells[first].Measure == c.Measure
}

func programsFirst(g cells.Group) int {
	if g.Name == "program" {
		return 0
	}
	return 1
}

// barLabel leaves out what is the same for nearly all.
func barLabel(c result.Cell) string {
	label := c.Name
	if !slices.Contains([]string{"", "rate", "throughput"}, c.Measure) {
		label += ", " + c.Measure
	}
	if c.CPUs == "two" {
		label += ", two CPUs"
	}
	return label
}
