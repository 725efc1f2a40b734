// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// goals has a row for each cell with a goal, and a column for each machine. It is empty if none has. A missed
// goal is followed by its limit, if one is known.
func goals(machines []cells.Machine) string {
	var b strings.Builder
	all, met := make([]int, len(machines)), make([]int, len(machines))
	row(&b, append([]string{"", "what", "against", "goal"}, names(machines)...)...)
	ruler(&b, len(machines)+4)
	for _, r := range cells.Rows(machines) {
		for _, kind := range []func(result.Cell) (outcome, bool){ratioOutcome, limitOutcome} {
			texts, of := []string{}, outcome{}
			for i, m := range machines {
				text := missing
				if o, ok := outcomeOf(r.Cells[i], kind); ok {
					of, text = o, o.text(m.Limits[r.Key])
					all[i]++
					if o.met {
						met[i]++
					}
				}
				texts = append(texts, text)
			}
			if of.goal != "" {
				row(&b, append([]string{r.Title, inline(cells.Label(r.First())), of.against, of.goal}, texts...)...)
			}
		}
	}
	if slices.Max(all) == 0 {
		return ""
	}
	return counts(machines, all, met) + "\n" + b.String()
}

func counts(machines []cells.Machine, all, met []int) string {
	var b strings.Builder
	for i, m := range machines {
		name := ""
		if len(machines) > 1 {
			name = "- " + inline(m.Title()) + ": "
		}
		fmt.Fprintf(&b, "%s%d goals: %d met, %d not met.\n", name, all[i], met[i], all[i]-met[i])
	}
	return b.String()
}

type outcome struct {
	against, measured, goal, says string
	met                           bool
}

func outcomeOf(c *result.Cell, kind func(result.Cell) (outcome, bool)) (outcome, bool) {
	if c == nil {
		return outcome{}, false
	}
	return kind(*c)
}

// text has the limit only after a goal that is missed.
func (o outcome) text(limit string) string {
	text := o.measured + ": " + o.says
	if !o.met && limit != "" {
		text += ". Limit: " + inline(limit)
	}
	return text
}

const (
	metText    = "met"
	notMetText = "**not met**"
	notThere   = "**not measured**"
)

// ratioOutcome is the outcome of a goal for the ratio of a cell.
func ratioOutcome(c result.Cell) (o outcome, ok bool) {
	if c.Goal == 0 {
		return o, false
	}
	o = outcome{against: string(c.ComparedWith()), measured: missing, goal: c.ShowGoal(), says: notThere}
	r, ok := cells.Compare(c, result.Sockmap)
	if !ok {
		return o, true
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
		o.says += ", within the noise" // the document explains it
	}
	return o, true
}

// limitOutcome is the outcome of a limit of the measured value.
func limitOutcome(c result.Cell) (o outcome, ok bool) {
	if c.Limit == 0 {
		return o, false
	}
	o = outcome{against: missing, measured: missing, goal: c.ShowLimit(), says: notThere}
	met, measured := c.MeetsLimit()
	if !measured {
		return o, true
	}
	o.measured = result.Show(result.Median(c.Samples[result.Sockmap]), c.Unit)
	o.met, o.says = met, notMetText
	if met {
		o.says = metText
	}
	return o, true
}

// interval of a ratio, after its value.
func interval(value string, r result.Ratio) string {
	return fmt.Sprintf("%s (%s to %s)", value, bound(r.Low), bound(r.High))
}

// A bound of an interval that ends near 1 is not written as 1.
func bound(v float64) string {
	text := fmt.Sprintf("%.2f", v)
	if text == "1.00" && v != 1 {
		return fmt.Sprintf("%.4f", v)
	}
	return text
}
