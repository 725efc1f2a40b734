// SPDX-License-Identifier: Apache-2.0

package known

import (
	"cmp"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// A Tally is the number of cases of a report that differ for one reason.
type Tally struct {
	Reason  string // its name; empty: unknown
	Effect  Effect
	Refusal bool
	Cases   int
}

// Tallies counts the cases that Explain has explained, most cases first, refusals last.
func Tallies(r *suite.Report) (all []Tally) {
	for _, c := range r.Cases {
		if c.Verdict != suite.Differs {
			continue
		}
		i := slices.IndexFunc(all, func(t Tally) bool { return t.Reason == c.ReasonName })
		if i < 0 {
			i = len(all)
			all = append(all, Tally{Reason: c.ReasonName, Effect: Effect(c.Effect), Refusal: c.Refusal})
		}
		all[i].Cases++
	}
	slices.SortFunc(all, func(a, b Tally) int {
		if a.Refusal != b.Refusal {
			if a.Refusal {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.Cases, a.Cases), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// Sum adds up the refusals, or all other cases, and counts their reasons.
func Sum(all []Tally, refusals bool) (cases, reasons int) {
	for _, t := range all {
		if t.Refusal == refusals {
			cases += t.Cases
			reasons++
		}
	}
	return cases, reasons
}
