// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// print shows the median of each variant, the one that others are compared with first, with the ratio to it and its interval.
func print(out io.Writer, cells []result.Cell) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var notes []string
	for _, c := range cells {
		base := c.ComparedWith()
		variants := slices.SortedFunc(maps.Keys(c.Samples), func(a, b result.Variant) int {
			return cmp.Or(cmp.Compare(rank(a, base), rank(b, base)), cmp.Compare(a, b))
		})
		var texts []string
		for _, v := range variants {
			text := fmt.Sprintf("%s %s", v, show(result.Median(c.Samples[v]), c.Unit))
			if r, ok := c.Against(v); ok && v != base {
				text += fmt.Sprintf(" %.2fx (%.2f to %.2f)", r.Value, r.Low, r.High)
			}
			texts = append(texts, text)
		}
		if c.Note != "" && !slices.Contains(notes, c.Note) {
			notes = append(notes, c.Note)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s%s\n", c.Name, c.Measure, strings.Join(texts, "   "), verdict(c))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Fprintf(out, "  - %s\n", n)
	}
	return nil
}

func rank(v, base result.Variant) int {
	switch v {
	case base:
		return 0
	case result.Sockmap:
		return 1
	}
	return 2
}

// verdict is about goals, and about how much was redirected.
func verdict(c result.Cell) (text string) {
	if share, ok := c.Share[result.Sockmap]; ok {
		text += fmt.Sprintf("   redirected %.1f %%", 100*share)
	}
	if r, ok := c.Against(result.Sockmap); ok && c.Goal > 0 {
		text += fmt.Sprintf("   goal %.2fx: %s", c.Goal, met(r.Value >= c.Goal))
	}
	if c.Limit > 0 {
		text += fmt.Sprintf("   at most %s: %s", show(c.Limit, c.Unit), met(result.Median(c.Samples[result.Sockmap]) <= c.Limit))
	}
	return text
}

func met(yes bool) string {
	if yes {
		return "met"
	}
	return "NOT MET"
}

// show is a number with a unit that makes it short.
func show(value float64, unit string) string {
	scale := func(steps []string, factor float64, rest string) string {
		i := 0
		for ; math.Abs(value) >= factor && i < len(steps)-1; i++ {
			value /= factor
		}
		return fmt.Sprintf("%.4g %s%s", value, steps[i], rest)
	}
	kind, rest, _ := strings.Cut(unit, "/")
	if rest != "" {
		rest = "/" + rest
	}
	switch kind {
	case "ns":
		return scale([]string{"ns", "µs", "ms", "s"}, 1000, rest)
	case "B":
		return scale([]string{"B", "KiB", "MiB", "GiB"}, 1024, rest)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}
