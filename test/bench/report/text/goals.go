// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// goals is a row for each cell that has one; empty if none has.
func goals(groups []cells.Group) string {
	var b strings.Builder
	all, met := 0, 0
	row(&b, "", "what", "against", "measured", "goal", "result")
	ruler(&b, 6)
	for _, g := range groups {
		for _, c := range g.Cells {
			for _, o := range outcomes(c) {
				all++
				if o.met {
					met++
				}
				row(&b, g.Title, inline(cells.Label(c)), o.against, o.measured, o.goal, o.says)
			}
		}
	}
	if all == 0 {
		return ""
	}
	return fmt.Sprintf("%d goals: %d met, %d not met.\n\n%s", all, met, all-met, b.String())
}

type outcome struct {
	against, measured, goal, says string
	met                           bool
}

// outcomes of a cell: of its ratio, and of what was measured itself.
func outcomes(c result.Cell) (all []outcome) {
	if c.Goal != 0 {
		all = append(all, ratioOutcome(c))
	}
	if c.Limit != 0 {
		all = append(all, limitOutcome(c))
	}
	return all
}

const (
	metText    = "met"
	notMetText = "**not met**"
	notThere   = "**not measured**"
)

func ratioOutcome(c result.Cell) outcome {
	o := outcome{against: string(c.ComparedWith()), measured: "–", goal: c.ShowGoal(), says: notThere}
	r, ok := cells.Compare(c, result.Sockmap)
	if !ok {
		return o
	}
	o.measured = interval(cells.Times(r.Value, c.Goal), r.Ratio)
	o.says = notMetText
	o.met, _ = c.MeetsGoal()
	if o.met {
		o.says = metText
	}
	switch {
	case r.Says == cells.TooFew:
		o.says += ", of too few rounds"
	case o.met && r.Low < c.Goal, !o.met && r.High >= c.Goal:
		o.says += ", within the noise" // the frame says what that means
	}
	return o
}

func limitOutcome(c result.Cell) outcome {
	o := outcome{against: "–", measured: "–", goal: c.ShowLimit(), says: notThere}
	met, measured := c.MeetsLimit()
	if !measured {
		return o
	}
	o.measured = result.Show(result.Median(c.Samples[result.Sockmap]), c.Unit)
	o.met, o.says = met, notMetText
	if met {
		o.says = metText
	}
	return o
}

// interval of a ratio behind its value.
func interval(value string, r result.Ratio) string {
	return fmt.Sprintf("%s (%s to %s)", value, bound(r.Low), bound(r.High))
}

// bound of an interval that ends beside 1 is not written as 1.
func bound(v float64) string {
	text := fmt.Sprintf("%.2f", v)
	if text == "1.00" && v != 1 {
		return fmt.Sprintf("%.4f", v)
	}
	return text
}
