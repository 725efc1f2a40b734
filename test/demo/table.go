// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	lgtable "charm.land/lipgloss/v2/table"
)

func table(results []result) string {
	rows := make([][]string, 0, len(results))
	for _, r := range results {
		rows = append(rows, r.row())
	}
	bold, faint := lipgloss.NewStyle().Bold(true), lipgloss.NewStyle().Faint(true)
	gain := lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Green)
	t := lgtable.New().
		Border(lipgloss.RoundedBorder()).
		BorderStyle(faint).
		Headers("", "plain TCP", "with sockmap", "ratio", "redirected").
		Rows(rows...).
		StyleFunc(func(row, col int) lipgloss.Style {
			style := lipgloss.NewStyle()
			switch {
			case row == lgtable.HeaderRow:
				style = bold
			case col == 3:
				style = gain
			}
			if col > 0 {
				style = style.Align(lipgloss.Right)
			}
			return style.Padding(0, 1)
		})
	return t.String()
}

func (r result) row() []string {
	share := fmt.Sprintf("%.1f %%", 100*r.share)
	if r.kind == "stream" {
		ratio := r.chained.bytesPerSecond / r.plain.bytesPerSecond
		return []string{r.name, rate(r.plain), rate(r.chained), fmt.Sprintf("%.2f x", ratio), share}
	}
	ratio50, ratio99 := quotient(r.plain.p50, r.chained.p50), quotient(r.plain.p99, r.chained.p99)
	return []string{r.name, latency(r.plain), latency(r.chained), fmt.Sprintf("%.2f x / %.2f x", ratio50, ratio99), share}
}

func quotient(a, b time.Duration) float64 { return float64(a) / float64(b) }

func latency(f figures) string {
	return fmt.Sprintf("p50 %.1f µs  p99 %.1f µs", micro(f.p50), micro(f.p99))
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func rate(f figures) string { return fmt.Sprintf("%.2f GB/s", f.bytesPerSecond/1e9) }

func footnotes(p *pair) string {
	lines := []string{
		"Latency: of a request and its answer, p50 and p99; the ratio is how many times shorter. Streams: as the reader saw them.",
		fmt.Sprintf("Medians of %d rounds, both pairs in turn, client and server on CPU %d. Direct: %s; service: %s, DNAT to it.",
			rounds, cpu, p.direct, p.service),
		"Redirected: share of the bytes with sockmap that never saw the TCP/IP stack, as the programs counted them.",
	}
	return strings.Join(lines, "\n")
}
