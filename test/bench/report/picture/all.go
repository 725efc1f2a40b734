// SPDX-License-Identifier: Apache-2.0

// Package picture draws the results.
package picture

import (
	"fmt"
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
		pictures = append(pictures, latency(s))
	}
	if rows := bars(cells.Groups(files)); len(rows) > 0 {
		pictures = append(pictures, ratios(rows))
	}
	if s := find(all, "stream", "throughput", cells.Size); s != nil {
		pictures = append(pictures, streams(s))
	}
	if s := find(all, "scale", "p50", cells.Number); s != nil {
		pictures = append(pictures, flows(s))
	}
	return pictures
}

const below = "Numbers below the axis: how many times better sockmap is than plain TCP; less than 1 is worse."

func latency(s *series) Picture {
	return lines{
		frame: frame{
			title:    "A request and its answer take less time",
			subtitle: "Median time of a request and an answer of the same size, between two containers of one node" + on(s) + ". Lower is better.",
			caption:  "Size of the request, and of the answer. " + below,
		},
		unit: "µs", factor: 1e-3, series: s, label: sizeLabel,
	}.picture("performance", "Median time of a request and its answer by size, for "+named(s), "")
}

func streams(s *series) Picture {
	return lines{
		frame: frame{
			title:    "Throughput of a stream",
			subtitle: "What the reader received between two containers of one node" + also(s) + on(s) + ". Higher is better.",
			caption:  "Size of each write. " + below,
		},
		unit: "MiB/s", factor: 1.0 / (1 << 20), series: s, label: sizeLabel,
	}.picture("performance-streams", "Throughput of a stream by size of its writes, for "+named(s), "stream")
}

func flows(s *series) Picture {
	return lines{
		frame: frame{
			title:    "With many flows on the node",
			subtitle: "Median time of a request and its answer" + on(s) + ", while so many flows are open. Lower is better.",
			caption:  "Number of open flows. " + below,
		},
		unit: "µs", factor: 1e-3, series: s, label: countLabel,
	}.picture("performance-scale", "Median time of a request and its answer by number of open flows, for "+named(s), "scale")
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
