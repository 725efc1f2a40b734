// SPDX-License-Identifier: Apache-2.0

// Package picture draws the results.
package picture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// Names are all that there can be.
var Names = []string{"performance", "performance-ratios", "performance-streams", "performance-scale"}

// All are the pictures for which there are cells.
func All(files []result.File) (pictures []Picture) {
	var all []result.Cell
	for _, f := range files {
		all = append(all, f.Cells...)
	}
	if s := find(all, "rr", "p50", cells.Size); s != nil {
		pictures = append(pictures, latency(s, source(files, "rr")))
	}
	if rows := bars(cells.Groups(files)); len(rows) > 0 {
		pictures = append(pictures, ratios(rows, source(files, "")))
	}
	if s := find(all, "stream", "throughput", cells.Size); s != nil {
		pictures = append(pictures, streams(s, source(files, "stream")))
	}
	if s := find(all, "scale", "p50", cells.Number); s != nil {
		pictures = append(pictures, flows(s, source(files, "scale")))
	}
	return pictures
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
			title:    "With many flows on the node",
			subtitle: "Median time of a request and its answer" + on(s) + ", while so many flows are open. Lower is better.",
			caption:  "Number of open flows. " + below + source,
		},
		unit: "µs", factor: 1e-3, series: s, label: countLabel,
	}.picture("performance-scale", "Median time of a request and its answer by number of open flows, for "+named(s), "scale")
}

// source is where a group was measured; all of them, if the group has no name.
func source(files []result.File, group string) string {
	var machines []string
	for _, f := range files {
		m := fmt.Sprintf("kernel %s, %d CPUs, %s", f.Machine.Kernel, f.Machine.CPUs, f.Machine.CPU)
		has := group == "" || slices.ContainsFunc(f.Cells, func(c result.Cell) bool { return c.Group == group })
		if has && !slices.Contains(machines, m) {
			machines = append(machines, m)
		}
	}
	return "Measured on: " + strings.Join(machines, "; ") + "."
}

// on tells where both ends ran.
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
