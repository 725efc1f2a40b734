// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"charm.land/lipgloss/v2"
	lgtable "charm.land/lipgloss/v2/table"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/ratio"
	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
)

func table(results []result) string {
	rows := make([][]string, 0, len(results))
	for _, r := range results {
		rows = append(rows, r.row())
	}
	bold, faint := lipgloss.NewStyle().Bold(true), lipgloss.NewStyle().Faint(true)
	gain := lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Green)
	loss := lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
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
			case col == 3 && results[row].ratio().Value < 1:
				style = loss
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
	of, share := r.ratio(), fmt.Sprintf("%.1f %%", 100*r.share)
	times := fmt.Sprintf("%.2f x (%.2f to %.2f)", of.Value, of.Low, of.High)
	if r.kind == wire.Stream {
		return []string{r.name, rate(r.plain), rate(r.chained), times, share}
	}
	return []string{r.name, latency(r.plain), latency(r.chained), times, share}
}

func latency(f figures) string {
	return fmt.Sprintf("p50 %.1f µs  p99 %.1f µs", ratio.Median(f.p50)/1000, ratio.Median(f.p99)/1000)
}

func rate(f figures) string {
	v := ratio.Median(f.bytesPerSecond)
	if v < 1<<30 {
		return fmt.Sprintf("%.1f MiB/s", v/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB/s", v/(1<<30))
}

func footnotes(p *pair) string {
	lines := []string{
		"Ratio: by how much sockmap is better than plain TCP, in latency of a request (median) or throughput of a stream.",
		"A ratio below 1 is a loss. The brackets have the interval of 95 % over rounds.",
		fmt.Sprintf("%d rounds, both pairs in turn, client and server on CPU %d. Direct: %s; service: %s, with DNAT to the former.",
			rounds, cpu, p.direct, p.service),
		"Redirected: share of the bytes that skipped the TCP/IP stack, as counted by the BPF programs.",
	}
	return strings.Join(lines, "\n")
}
