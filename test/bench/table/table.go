// SPDX-License-Identifier: Apache-2.0

// Package table prints the results of a benchmark on the terminal. The report is for later readers; this is
// for the user who waits.
package table

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// Head names the machine, and explains Print's tables.
func Head(out io.Writer, f result.File) error {
	m := f.Machine
	_, err := fmt.Fprintf(out, "%s, %s, %d CPUs (%s), Linux %s, guards %s, %s\n"+
		"The base as it is; of the others how many times better they are, with the interval of 95 %% over rounds; r: share redirected.\n",
		f.Suite, f.Version, m.CPUs, m.CPU, m.Kernel, strings.Join(m.Guards, " "), f.Took.Round(time.Second))
	return err
}

// Print writes a table for each group, and below it the notes of its cells.
func Print(out io.Writer, cells []result.Cell) error {
	for len(cells) > 0 {
		n := slices.IndexFunc(cells, func(c result.Cell) bool { return c.Group != cells[0].Group })
		if n < 0 {
			n = len(cells)
		}
		if err := group(out, cells[:n]); err != nil {
			return err
		}
		cells = cells[n:]
	}
	return nil
}

func group(out io.Writer, cells []result.Cell) error {
	variants := slices.DeleteFunc(result.Present(cells), func(v result.Variant) bool {
		return !slices.ContainsFunc(cells, func(c result.Cell) bool { return other(c, v) })
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\t\t\tbase", cells[0].Group)
	for _, v := range variants {
		fmt.Fprintf(w, "\t%s", v)
	}
	fmt.Fprintln(w, "\tgoal")
	for _, c := range cells {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s", c.Name, c.Measure, c.CPUs, base(c))
		for _, v := range variants {
			fmt.Fprintf(w, "\t%s", against(c, v))
		}
		fmt.Fprintf(w, "\t%s\n", goal(c))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return notes(out, cells)
}

// other reports whether v is a measured variant other than the base of c.
func other(c result.Cell, v result.Variant) bool {
	return v != c.ComparedWith() && len(c.Samples[v]) > 0
}

func notes(out io.Writer, cells []result.Cell) error {
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

func base(c result.Cell) string {
	v := c.ComparedWith()
	switch {
	case len(c.Samples[v]) == 0:
		return "-"
	case v == result.Plain:
		return value(c, v)
	}
	return value(c, v) + " (" + string(v) + ")"
}

func value(c result.Cell, v result.Variant) string {
	return result.Show(result.Median(c.Samples[v]), c.Unit)
}

// against shows the value itself if there is nothing to compare with.
func against(c result.Cell, v result.Variant) string {
	if !other(c, v) {
		return ""
	}
	r, ok := c.Against(v)
	if !ok {
		return value(c, v)
	}
	text := fmt.Sprintf("%.2f [%.2f, %.2f]", r.Value, r.Low, r.High)
	if share, ok := c.Share[v]; ok {
		text += fmt.Sprintf(" r %.0f %%", 100*share)
	}
	return text
}

func goal(c result.Cell) string {
	var texts []string
	if met, ok := c.MeetsGoal(); ok {
		texts = append(texts, c.ShowGoal()+missed(met))
	}
	if met, ok := c.MeetsLimit(); ok {
		texts = append(texts, c.ShowLimit()+missed(met))
	}
	return strings.Join(texts, ", ")
}

func missed(met bool) string {
	if met {
		return ""
	}
	return " MISSED"
}
