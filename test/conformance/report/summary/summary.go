// SPDX-License-Identifier: Apache-2.0

// Package summary reduces a report of the conformance suite to the facts that stay the same from run to run.
package summary

import (
	"github.com/sockmap-cni/sockmap-cni/test/conformance/known"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// Counts are numbers of cases. Each case that differs is counted once: as refused, or by its effect.
type Counts struct {
	Cases   int `json:"cases"`
	Same    int `json:"same"`
	Refused int `json:"refused"` // a call is refused, and programs fall back
	Lesser  int `json:"lesser"`  // harmless or visible
	Fails   int `json:"fails"`
	Hangs   int `json:"hangs"`
	Loses   int `json:"loses"`
	// Unknown are the cases that differ without a known reason, or that could not be run.
	Unknown int `json:"unknown"`
	// Bulk is the class of the share of redirected bulk bytes; see Share.
	Bulk string `json:"bulk"`
}

// Of returns the counts of a report. It also sets effects and reasons from the table of known differences.
func Of(r *suite.Report) Counts {
	known.Explain(r)
	c := Counts{Cases: len(r.Cases), Bulk: Share(r)}
	for _, one := range r.Cases {
		switch {
		case one.Verdict == suite.Same:
			c.Same++
		case one.Verdict != suite.Differs:
			c.Unknown++
		case one.Refusal:
			c.Refused++
		default:
			*c.of(known.Effect(one.Effect))++
		}
	}
	return c
}

func (c *Counts) of(e known.Effect) *int {
	switch e {
	case known.Harmless, known.Visible:
		return &c.Lesser
	case known.Fails:
		return &c.Fails
	case known.Hangs:
		return &c.Hangs
	case known.Loses:
		return &c.Loses
	}
	return &c.Unknown
}

// Share is a class, because the number varies from run to run.
func Share(r *suite.Report) string {
	bulk := r.Bulk()
	all := bulk.Redirected + bulk.TCP
	switch {
	case bulk.Redirected == 0:
		return "none"
	case bulk.Redirected*100 >= all*95:
		return "at least 95 %"
	case bulk.Redirected*2 >= all:
		return "more than half"
	default:
		return "less than half"
	}
}
