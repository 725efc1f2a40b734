// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// print shows the cells by group: the base as it is, and how many times better the others are, with the interval.
func print(out io.Writer, f result.File) error {
	m := f.Machine
	fmt.Fprintf(out, "%s, %s, %d CPUs, Linux %s, guards %s\n", f.Suite, f.Version, m.CPUs, m.Kernel, strings.Join(m.Guards, " "))
	fmt.Fprintln(out, "How many times better than the base, above 1 is better, with the interval of 95 % over rounds; s: share redirected.")
	for len(f.Cells) > 0 {
		group := f.Cells[0].Group
		n := slices.IndexFunc(f.Cells, func(c result.Cell) bool { return c.Group != group })
		if n < 0 {
			n = len(f.Cells)
		}
		if err := printGroup(out, f.Cells[:n]); err != nil {
			return err
		}
		f.Cells = f.Cells[n:]
	}
	return nil
}

func printGroup(out io.Writer, cells []result.Cell) error {
	variants := present(cells)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\t\t\tbase", cells[0].Group)
	for _, v := range variants {
		fmt.Fprintf(w, "\t%s", v)
	}
	fmt.Fprintln(w, "\tgoal")
	for _, c := range cells {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s", c.Name, c.Measure, c.CPUs, ownValue(c, c.ComparedWith()))
		for _, v := range variants {
			fmt.Fprintf(w, "\t%s", against(c, v))
		}
		fmt.Fprintf(w, "\t%s\n", goal(c))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printNotes(out, cells)
}

func printNotes(out io.Writer, cells []result.Cell) error {
	var said []string
	for _, c := range cells {
		if c.Note == "" || slices.Contains(said, c.Note) {
			continue
		}
		said = append(said, c.Note)
		if _, err := fmt.Fprintf(out, "  %s: %s\n", c.Name, c.Note); err != nil {
			return err
		}
	}
	return nil
}

// present are the variants of these cells that are compared with a base, in the order of the package result.
func present(cells []result.Cell) (variants []result.Variant) {
	for _, v := range everyVariant {
		if slices.ContainsFunc(cells, func(c result.Cell) bool { return v != c.ComparedWith() && len(c.Samples[v]) > 0 }) {
			variants = append(variants, v)
		}
	}
	return variants
}

func ownValue(c result.Cell, v result.Variant) string {
	if len(c.Samples[v]) == 0 {
		return "-"
	}
	text := human(result.Median(c.Samples[v]), c.Unit)
	if v != result.Plain && v == c.ComparedWith() {
		text += " (" + string(v) + ")"
	}
	return text
}

// against is empty for the base itself. Without a base there is nothing to compare with, and the value itself is shown.
func against(c result.Cell, v result.Variant) string {
	if v == c.ComparedWith() || len(c.Samples[v]) == 0 {
		return ""
	}
	r, ok := c.Against(v)
	if !ok {
		return ownValue(c, v)
	}
	text := fmt.Sprintf("%.2f [%.2f, %.2f]", r.Value, r.Low, r.High)
	if share, ok := c.Share[v]; ok {
		text += fmt.Sprintf(" s %.0f%%", 100*share)
	}
	return text
}

func goal(c result.Cell) string {
	own := result.Median(c.Samples[result.Sockmap])
	switch {
	case len(c.Samples[result.Sockmap]) == 0:
		return ""
	case c.Limit > 0:
		return met(c.Limit >= own, "at most "+human(c.Limit, c.Unit))
	case c.Goal > 0:
		r, ok := c.Against(result.Sockmap)
		return met(ok && r.Value >= c.Goal, fmt.Sprintf("%.2f", c.Goal))
	}
	return ""
}

func met(yes bool, goal string) string {
	if yes {
		return goal
	}
	return goal + " MISSED"
}

// human writes a value in a unit in which it has few digits.
func human(value float64, unit string) string {
	switch {
	case unit == "B/s":
		return fmt.Sprintf("%.0f MB/s", value/1e6)
	case unit == "1/s":
		return fmt.Sprintf("%.0f/s", value)
	case unit == "ns/B":
		return fmt.Sprintf("%.3f ns/B", value)
	case strings.HasPrefix(unit, "ns") && value >= 10_000:
		return fmt.Sprintf("%.1f µs%s", value/1000, unit[2:])
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}
