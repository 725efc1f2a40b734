// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// beside has the ratios of one group, with a column for each machine.
func beside(machines []cells.Machine, title string) string {
	var b strings.Builder
	row(&b, append([]string{"sockmap", "against"}, names(machines)...)...)
	ruler(&b, len(machines)+2)
	for _, r := range cells.Rows(machines) {
		if r.Title != title {
			continue
		}
		texts := []string{inline(cells.Label(r.First())), string(r.First().ComparedWith())}
		compared := false
		for _, c := range r.Cells {
			text, ok := ratioOf(c)
			compared = compared || ok
			texts = append(texts, text)
		}
		if compared {
			row(&b, texts...)
		}
	}
	return b.String()
}

// names are the heads of columns.
func names(machines []cells.Machine) (all []string) {
	for _, m := range machines {
		all = append(all, inline(m.Title()))
	}
	return all
}

const missing = "–"

// ratioOf is the text about sockmap on one machine.
func ratioOf(c *result.Cell) (text string, ok bool) {
	if c == nil {
		return missing, false
	}
	r, ok := cells.Compare(*c, result.Sockmap)
	if !ok {
		return missing, false
	}
	text = interval(r.Text(), r.Ratio) + ": " + string(r.Says)
	if mostlyTCP(*c) {
		text += ", mostly TCP"
	}
	return text, true
}

// quoted are the cells of the short table in README, with their names there: few, so that the way to try it
// is on the first screen, and the losses among them.
var quoted = []struct{ key, words string }{
	{"rr/64 B (p50, one CPU)", "requests of 64 B"},
	{"rr/64 B (p50, two CPUs)", "requests of 64 B, a CPU for each end"},
	{"stream/64 KiB (throughput, one CPU)", "stream, writes of 64 KiB"},
	{"stream/64 KiB (throughput, two CPUs)", "stream, writes of 64 KiB, a CPU for each end"},
	{"program/redis GET -c 50 (rate, one CPU)", "redis, 50 connections"},
	{"churn/connect, 64 B each way, close (rate, one CPU)", "a connection for each request"},
}

// Range is the short table: the least and the greatest ratio on all machines, for each kind of traffic.
func Range(machines []cells.Machine) string {
	var b strings.Builder
	of := "one machine: " + inline(machines[0].Title())
	if len(machines) > 1 {
		of = fmt.Sprintf("%d machines", len(machines))
	}
	fmt.Fprintf(&b, "Times as good as plain TCP, on %s. Below 1 is a loss.\n\n", of)
	head := []string{"", "least", "greatest"}
	if len(machines) == 1 {
		head = []string{"", "ratio"}
	}
	row(&b, head...)
	ruler(&b, len(head))
	rows := cells.Rows(machines)
	for _, q := range quoted {
		i := slices.IndexFunc(rows, func(r cells.Row) bool { return r.Key == q.key })
		if i < 0 {
			continue
		}
		if low, high, ok := extremes(rows[i]); ok {
			texts := []string{q.words, interval(low.Text(), low.Ratio), interval(high.Text(), high.Ratio)}
			row(&b, texts[:len(head)]...)
		}
	}
	return b.String()
}

// extremes are the least and the greatest ratio, each with its interval.
func extremes(r cells.Row) (low, high cells.Compared, found bool) {
	for _, c := range r.Cells {
		if c == nil {
			continue
		}
		of, ok := cells.Compare(*c, result.Sockmap)
		if !ok {
			continue
		}
		if !found || of.Value < low.Value {
			low = of
		}
		if !found || of.Value > high.Value {
			high = of
		}
		found = true
	}
	return low, high, found
}
