// SPDX-License-Identifier: Apache-2.0

// Package picture draws the results.
package picture

import (
	"fmt"
	"strings"

	"gonum.org/v1/plot/vg/draw"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// Names are the names of all possible pictures.
var Names = []string{"performance", "performance-ratios", "performance-streams", "performance-scale"}

// All returns the pictures for which there are cells, with a panel, or a bar, for each machine.
func All(machines []cells.Machine) (pictures []Picture) {
	panels := func(group, measure string, number func(string) (float64, string, bool),
		draw func(s *series, source string) Picture, cpus ...string) {
		var all []Picture
		for _, m := range machines {
			for _, on := range cpus {
				if s := find(cellsOf(m, on), group, measure, number); s != nil {
					all = append(all, draw(s, source(m)))
				}
			}
		}
		if len(all) > 0 {
			pictures = append(pictures, stacked(all))
		}
	}
	panels("rr", "p50", cells.Size, latency, "")
	if rows := bars(machines); len(rows) > 0 {
		pictures = append(pictures, ratios(rows, sources(machines)))
	}
	panels("stream", "throughput", cells.Size, streams, "", "two")
	panels("scale", "p50", cells.Number, flows, "")
	return pictures
}

// cellsOf returns the cells on these CPUs, or all.
func cellsOf(m cells.Machine, cpus string) (all []result.Cell) {
	for _, f := range m.Files {
		for _, c := range f.Cells {
			if cpus == "" || c.CPUs == cpus {
				all = append(all, c)
			}
		}
	}
	return all
}

// stacked is one picture made of several that show the same on different machines.
func stacked(all []Picture) Picture {
	p := all[0]
	p.height = 0
	for _, panel := range all {
		p.height += panel.height
	}
	p.draw = func(c draw.Canvas) {
		top := c.Max.Y
		for _, panel := range all {
			own := c
			own.Max.Y, own.Min.Y = top, top-panel.height
			panel.draw(own)
			top -= panel.height
		}
	}
	return p
}

const below = "Below each: how many times better sockmap is than plain; under 1 is worse.\n"

func latency(s *series, source string) Picture {
	return lines{
		frame: frame{
			title:    "Latency of a request and its answer",
			subtitle: "Median time; the answer is as large as the request" + on(s) + ". Lower is better.",
			caption:  "Size of the request, and of the answer. " + below + source,
		},
		unit: "µs", factor: 1e-3, series: s, label: sizeLabel,
	}.picture("performance", "Median time of a request and its answer by size, for "+named(s), "")
}

func streams(s *series, source string) Picture {
	return lines{
		frame: frame{
			title:    "Throughput of a stream",
			subtitle: "What the reader received" + also(s) + on(s) + ". Higher is better.",
			caption:  "Size of each write. " + below + source,
		},
		unit: "MiB/s", factor: 1.0 / (1 << 20), series: s, label: sizeLabel,
	}.picture("performance-streams", "Throughput of a stream by size of its writes, for "+named(s), "stream")
}

func flows(s *series, source string) Picture {
	return lines{
		frame: frame{
			title: "With many flows on the node",
			subtitle: "Median time of a request and its answer" + on(s) +
				", while so many flows are open. Lower is better.",
			caption: "Number of open flows. " + below + source,
		},
		unit: "µs", factor: 1e-3, series: s, label: countLabel,
	}.picture("performance-scale",
		"Median time of a request and its answer by number of open flows, for "+named(s), "scale")
}

// source describes where it was measured.
func source(m cells.Machine) string {
	return fmt.Sprintf("Measured on: %s; %d CPUs.", m.Title(), m.CPUs)
}

// sources has a letter for each machine if there are several.
func sources(machines []cells.Machine) string {
	if len(machines) == 1 {
		return source(machines[0])
	}
	var all []string
	for i, m := range machines {
		all = append(all, fmt.Sprintf("%s: %s; %d CPUs.", machineLetter(i), m.Title(), m.CPUs))
	}
	return "Measured on\n" + strings.Join(all, "\n")
}

func machineLetter(machine int) string { return string(rune('A' + machine)) }

// on describes where both ends ran.
func on(s *series) string {
	if where := cells.Where(s.points[0].cell); where != "" {
		return ", both ends on " + where
	}
	return ""
}

func also(s *series) string {
	if s.rest != "" {
		return ", " + s.rest
	}
	return ""
}

// named lists the variants.
func named(s *series) string {
	var names []string
	for _, v := range s.variants() {
		names = append(names, string(v))
	}
	if n := len(names); n > 1 {
		return fmt.Sprintf("%s and %s", strings.Join(names[:n-1], ", "), names[n-1])
	}
	return strings.Join(names, "")
}
