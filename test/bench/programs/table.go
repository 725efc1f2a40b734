// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func printTable(out io.Writer, f result.File) error {
	fmt.Fprintf(out, "%s, %s, kernel %s, %s, %d CPUs; medians, and times better with the interval of 95 %%; it took %s\n\n",
		f.Suite, f.Version, f.Machine.Kernel, f.Machine.CPU, f.Machine.CPUs, f.Took.Round(time.Second))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "program\tCPUs\tmeasure\tplain\tsockmap\tbetter\tgoal\tredirected")
	for _, c := range f.Cells {
		r, ok := c.Against(result.Sockmap)
		if !ok {
			continue
		}
		goal, share := "", ""
		if c.Goal > 0 {
			goal = fmt.Sprintf("%.2fx", c.Goal)
			if r.Value < c.Goal {
				goal += " missed"
			}
		}
		if s, ok := c.Share[result.Sockmap]; ok && c.Measure == "rate" {
			share = fmt.Sprintf("%.1f %%", 100*s)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.2fx [%.2f, %.2f]\t%s\t%s\n", c.Name, c.CPUs, c.Measure,
			value(c, result.Plain), value(c, result.Sockmap), r.Value, r.Low, r.High, goal, share)
	}
	return w.Flush()
}

func value(c result.Cell, v result.Variant) string {
	m := result.Median(c.Samples[v])
	if c.Unit == "ns" {
		return fmt.Sprintf("%.3f ms", m/1e6)
	}
	return fmt.Sprintf("%.0f %s", m, c.Unit)
}
