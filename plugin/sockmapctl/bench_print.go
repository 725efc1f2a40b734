// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

func (a *app) printBench(v *benchView) error {
	s := a.screen(statusLabel)
	s.Line("kernel", "%s", v.Kernel)
	s.Line("plain TCP", "%s", v.path())
	s.guards(v.Guards)
	s.Line("measured", "%d rounds of each, plain and accelerated in turn, %.0f s in all, %s", v.Rounds,
		v.Seconds, v.places())
	s.Blank()
	if err := s.Flush(); err != nil {
		return err
	}
	t := &term.Table{Columns: []term.Column{
		{Title: "TRAFFIC"}, {Title: "CPUS"}, {Title: "PLAIN", Right: true}, {Title: "SOCKMAP", Right: true},
		{Title: "RATIO", Right: true}, {Title: "95 %"}, {Title: "REDIRECTED", Right: true, Drop: 1},
		{Title: "RESULT"},
	}}
	for _, c := range v.Cases {
		cpus := "one"
		if c.TwoCPUs {
			cpus = "two"
		}
		t.Add(benchName(c.Kind, c.Bytes), cpus,
			benchValue(c.Plain, c.Unit), benchValue(c.Accelerated, c.Unit),
			c.Ratio.text(), c.Ratio.interval(), term.Share(c.Redirected, c.Sent), c.result())
	}
	if _, err := t.Write(a.stdout, a.width, true); err != nil {
		return err
	}
	if err := a.printGuardCosts(v.GuardCosts); err != nil {
		return err
	}
	s.Blank()
	label := "verdict"
	for _, line := range v.Verdict {
		s.Line(label, "%s", line)
		label = ""
	}
	return s.Flush()
}

// printGuardCosts prints a separate table, because its base is not plain TCP.
func (a *app) printGuardCosts(costs []benchGuardView) error {
	if len(costs) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	t := &term.Table{Columns: []term.Column{
		{Title: "GUARDS COST"}, {Title: "WITHOUT", Right: true}, {Title: "WITH", Right: true},
		{Title: "RATIO", Right: true}, {Title: "95 %"}, {Title: "RESULT"},
	}}
	for _, c := range costs {
		result := "no clear cost"
		if c.Clear && c.Ratio.Value < 1 {
			result = "cost"
		}
		t.Add(c.name(), benchValue(c.Without, c.Unit), benchValue(c.With, c.Unit), c.Ratio.text(),
			c.Ratio.interval(), result)
	}
	_, err := t.Write(a.stdout, a.width, true)
	return err
}

// path describes the route of plain TCP.
func (v *benchView) path() string {
	text := "two veth pairs, a bridge, "
	if v.Unfiltered == "" {
		text += "the packet filter, "
	}
	text += v.Congestion
	if v.Unfiltered != "" {
		text += "; no packet filter: " + v.Unfiltered
	}
	if v.Congestion != v.NodeDefault {
		text += fmt.Sprintf(" (this node has %s: pacing would make it slower)", v.NodeDefault)
	}
	return text
}

func (v *benchView) places() string {
	text := fmt.Sprintf("both ends on CPU %d", v.CPU)
	if v.OtherCPU < 0 {
		return text + "; there is no other"
	}
	return text + fmt.Sprintf(", or the end that begins on CPU %d", v.OtherCPU)
}

// result is the word for a ratio. A ratio below 1 is a loss, clear or not.
func (c benchCaseView) result() string {
	switch {
	case !c.wasRedirected():
		return "unknown"
	case c.Loss && c.Clear:
		return "LOSS"
	case c.Loss:
		return "LOSS, not clear"
	case c.Clear:
		return "gain"
	}
	return "no clear gain"
}

// text has more digits where two digits would round a loss to 1.00.
func (r ratioView) text() string {
	if text := fmt.Sprintf("%.2f", r.Value); text != "1.00" || r.Value >= 1 {
		return text
	}
	return fmt.Sprintf("%.4f", r.Value)
}

func (r ratioView) interval() string { return fmt.Sprintf("%.2f to %.2f", r.Low, r.High) }

func benchValue(v float64, unit string) string {
	if unit == "ns" {
		return fmt.Sprintf("%.1f µs", v/1e3)
	}
	if v < 1<<30 {
		return fmt.Sprintf("%.1f MiB/s", v/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB/s", v/(1<<30))
}
