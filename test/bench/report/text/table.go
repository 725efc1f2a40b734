// SPDX-License-Identifier: Apache-2.0

package text

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// A column of the table of a group. A column that is empty in each row is left out.
type column struct {
	title string
	cell  func(c result.Cell) string
}

func table(g cells.Group) string {
	columns := []column{
		{"", func(c result.Cell) string { return inline(c.Name) }},
		{"measure", func(c result.Cell) string { return inline(c.Measure) }},
		{"on", cells.Where},
	}
	for _, v := range result.Present(g.Cells) {
		columns = append(columns, column{string(v), func(c result.Cell) string { return measured(c, v) }})
	}
	columns = append(columns,
		column{"redirected", redirected},
		column{"rounds", rounds},
		column{"note", func(c result.Cell) string { return inline(c.Note) }},
	)
	columns = slices.DeleteFunc(columns, func(col column) bool {
		return !slices.ContainsFunc(g.Cells, func(c result.Cell) bool { return col.cell(c) != "" })
	})
	var b strings.Builder
	titles := make([]string, len(columns))
	for i, col := range columns {
		titles[i] = col.title
	}
	row(&b, titles...)
	ruler(&b, len(columns))
	for _, c := range g.Cells {
		texts := make([]string, len(columns))
		for i, col := range columns {
			texts[i] = col.cell(c)
		}
		row(&b, texts...)
	}
	return b.String()
}

// measured is the median of a variant, and below it the ratio, its interval and the judgement.
func measured(c result.Cell, v result.Variant) string {
	samples := c.Samples[v]
	if len(samples) == 0 {
		return ""
	}
	text := result.Show(result.Median(samples), c.Unit)
	if v == c.ComparedWith() {
		return text
	}
	r, ok := cells.Compare(c, v)
	if !ok {
		return text
	}
	text += "<br>"
	if base := c.ComparedWith(); base != result.Plain {
		text += "against " + string(base) + " "
	}
	text += interval(r.Text(), r.Ratio)
	return text + ": " + string(r.Says)
}

// redirected is the share for each variant that redirects. Below half, the variant is hardly accelerated.
func redirected(c result.Cell) string {
	var parts []string
	for _, v := range result.Present([]result.Cell{c}) {
		share, ok := c.Share[v]
		if !ok {
			continue
		}
		text := fmt.Sprintf("%.1f %%", share*100)
		if v != result.Sockmap {
			text = string(v) + " " + text
		}
		if v == result.Sockmap && mostlyTCP(c) {
			text += ", mostly TCP"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "<br>")
}

// rounds is the number of samples of each variant, and about how many operations each sample has.
func rounds(c result.Cell) string {
	var counts []int
	for _, samples := range c.Samples {
		if len(samples) > 0 {
			counts = append(counts, len(samples))
		}
	}
	if len(counts) == 0 {
		return ""
	}
	low, high := slices.Min(counts), slices.Max(counts)
	text := fmt.Sprint(high)
	if low != high {
		text = fmt.Sprintf("%d to %d", low, high)
	}
	if c.Repeats > 1 {
		text += " of " + result.Count(c.Repeats)
	}
	return text
}
