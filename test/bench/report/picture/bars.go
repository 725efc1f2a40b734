// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// bar is a ratio against plain. A bar without a name is the heading of the next ones.
type bar struct {
	heading string
	label   string
	ratio   cells.Compared
	goal    float64
}

// bars has the first measure of all programs, and the cells of other groups that have a goal, with one bar
// for each machine. Cells that are compared with something else than plain TCP are left out, because the line
// at 1 can have only one meaning.
func bars(machines []cells.Machine) (all []bar) {
	rows := cells.Rows(machines)
	leads := leading(rows)
	slices.SortStableFunc(rows, func(a, b cells.Row) int { return programsFirst(a) - programsFirst(b) })
	heading := ""
	for _, r := range rows {
		first := r.First()
		if first.ComparedWith() != result.Plain || first.Goal == 0 && !leads[r.Key] {
			continue
		}
		label := barLabel(first)
		for i, c := range r.Cells {
			if c == nil {
				continue
			}
			of, ok := cells.Compare(*c, result.Sockmap)
			if !ok {
				continue
			}
			if heading != r.Title {
				all = append(all, bar{heading: r.Title})
				heading = r.Title
			}
			if len(machines) > 1 {
				label = strings.TrimSpace(label + "  " + machineLetter(i))
			}
			all = append(all, bar{label: label, ratio: of, goal: c.Goal})
			label = "" // once for all machines
		}
	}
	return all
}

// leading are the measures of programs that come first, without measures that the picture has already.
func leading(rows []cells.Row) map[string]bool {
	leads, seen := map[string]bool{}, map[[2]string]bool{}
	for _, r := range rows {
		c := r.First()
		of := [2]string{c.Name, c.CPUs}
		if c.Group == "program" && !seen[of] {
			leads[r.Key], seen[of] = true, true
		}
	}
	return leads
}

func programsFirst(r cells.Row) int {
	if r.First().Group == "program" {
		return 0
	}
	return 1
}

// barLabel leaves out the words that nearly all have.
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
