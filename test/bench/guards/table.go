// SPDX-License-Identifier: Apache-2.0

package guards

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// print writes a table: the nanoseconds of the first two setups, and the time that the others add in the same
// round. Guards that rest are compared with the first setup, "nothing", and the others with the second, "no
// guard". After each median is half of the interquartile range.
func (r report) print(out io.Writer) {
	fmt.Fprintf(out,
		"kernel %s, medians of %d rounds, ns per call of %d bytes (± half the distance of the quartiles)\n",
		r.Release, r.Rounds, size)
	for _, g := range r.Refused {
		fmt.Fprintf(out, "refused by this kernel: guard %s: %s\n", g.Name, g.Why)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := []string{"call"}
	for i, c := range r.Columns {
		if i > 1 {
			c.Setup = "+" + c.Setup
		}
		head = append(head, c.Setup)
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, call := range r.Calls {
		row := []string{call}
		for i, c := range r.Columns {
			format, values := "%.0f ±%.0f", c.Nanos[call]
			if i > 1 {
				base := r.Columns[1]
				if c.Setup == restName {
					base = r.Columns[0]
				}
				format, values = "%+.0f ±%.0f", beyond(values, base.Nanos[call])
			}
			median, spread := summary(values)
			row = append(row, fmt.Sprintf(format, median, spread))
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
	for i, p := range r.Programs {
		if i == 0 {
			fmt.Fprintln(out, "run times by the kernel's clock, all guards, with the clock's own cost:")
		}
		fmt.Fprintf(out, "  %-20s %8.0f ns, %d runs\n", p.Name, p.Nanos, p.Runs)
	}
}

func beyond(with, without []float64) (all []float64) {
	for i := range with {
		all = append(all, with[i]-without[i])
	}
	return all
}

func summary(values []float64) (median, spread float64) {
	s := slices.Sorted(slices.Values(values))
	quarter := (len(s) - 1) / 4 // few rounds have none: the spread is that of all
	return s[(len(s)-1)/2], (s[len(s)-1-quarter] - s[quarter]) / 2
}
