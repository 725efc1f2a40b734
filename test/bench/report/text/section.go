// SPDX-License-Identifier: Apache-2.0

// Package text writes the results as Markdown. The same results always give the same text.
package text

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// Picture is shown above the tables, or with its group.
type Picture struct {
	Path string // link in the document
	Alt  string
	With string // name of a group; "" for the beginning, Goals for the table of goals
}

// Goals is the part of the section that has the goals, for Picture.With.
const Goals = "goals"

// Section is the text between the marked lines: the common cells of all machines side by side, and then each
// machine in full.
func Section(machines []cells.Machine, pictures []Picture) string {
	var b strings.Builder
	for _, m := range machines {
		for _, f := range m.Files {
			if strings.Contains(f.Suite, "quick") {
				fmt.Fprintf(&b,
					"**The results of “%s” on %s are those of a quick run: few and short rounds, not to be quoted.**\n\n",
					inline(f.Suite), inline(m.Title()))
			}
		}
	}
	b.WriteString(summary(machines))
	show(&b, pictures, "")
	b.WriteString("\n### Machines\n\n" + runs(machines))
	if text := goals(machines); text != "" {
		b.WriteString("\n### Goals\n\n" + text)
	}
	show(&b, pictures, Goals)
	for _, g := range titles(machines) {
		fmt.Fprintf(&b, "\n### %s\n\n", g.Title)
		if len(machines) > 1 {
			b.WriteString(beside(machines, g.Title))
		}
		for _, m := range machines {
			if own := group(m, g.Name); own != nil {
				if len(machines) > 1 {
					fmt.Fprintf(&b, "\n%s:\n\n", m.Title())
				}
				b.WriteString(table(*own))
			}
		}
		show(&b, pictures, g.Name)
	}
	return b.String()
}

// titles are the groups that any machine has.
func titles(machines []cells.Machine) []cells.Group {
	var all []result.File
	for _, m := range machines {
		all = append(all, m.Files...)
	}
	return cells.Groups(all)
}

func group(m cells.Machine, name string) *cells.Group {
	for _, g := range cells.Groups(m.Files) {
		if g.Name == name {
			return &g
		}
	}
	return nil
}

func show(b *strings.Builder, pictures []Picture, with string) {
	for _, p := range pictures {
		if p.With == with {
			fmt.Fprintf(b, "\n![%s](%s)\n", p.Alt, p.Path)
		}
	}
}

// summary counts the judgements, and names the cells that are worse and those that were hardly redirected, so
// that they are easy to find.
func summary(machines []cells.Machine) string {
	var b strings.Builder
	for _, m := range machines {
		if len(machines) > 1 {
			fmt.Fprintf(&b, "**%s:** ", inline(m.Title()))
		}
		b.WriteString(summaryOf(m))
		if len(machines) > 1 {
			b.WriteString("\n")
		}
	}
	return b.String()
}

func summaryOf(m cells.Machine) string {
	count := map[cells.Judgement]int{}
	var worse, onTCP []string
	all := 0
	for _, g := range cells.Groups(m.Files) {
		for _, c := range g.Cells {
			if label := g.Title + ": " + where(c); mostlyTCP(c) && !slices.Contains(onTCP, label) {
				onTCP = append(onTCP, label)
			}
			r, ok := cells.Compare(c, result.Sockmap)
			if !ok {
				continue
			}
			all++
			count[r.Says]++
			if r.Says == cells.WorseThan {
				worse = append(worse, fmt.Sprintf("%s: %s against %s: %s", g.Title, inline(cells.Label(c)),
					c.ComparedWith(), r.Text()))
			}
		}
	}
	text := fmt.Sprintf("Of %d comparisons of sockmap with its base: %d better, %d no clear difference, %d worse",
		all, count[cells.BetterThan], count[cells.Unclear], count[cells.WorseThan])
	if n := count[cells.TooFew]; n > 0 {
		text += fmt.Sprintf(", %d with too few rounds to tell", n)
	}
	text += ".\n"
	if len(worse) > 0 {
		text += "\nWorse:\n\n- " + strings.Join(worse, "\n- ") + "\n"
	}
	if len(onTCP) > 0 {
		text += "\nMostly TCP, so that their ratios say little of redirecting:\n\n- " + strings.Join(onTCP,
			"\n- ") + "\n"
	}
	return text
}

func where(c result.Cell) string {
	if at := cells.Where(c); at != "" {
		return inline(c.Name) + " (" + at + ")"
	}
	return inline(c.Name)
}

// mostlyTCP reports whether the bytes of a cell should have been redirected, and mostly were not.
func mostlyTCP(c result.Cell) bool {
	share, ok := c.Share[result.Sockmap]
	return ok && share < 0.5
}

var escapes = strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "*", `\*`, "`", "'", "[", `\[`)

// inline keeps a text of the results from being read as Markdown.
func inline(s string) string { return escapes.Replace(s) }

// row writes one row of a table.
func row(b *strings.Builder, cells ...string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

func ruler(b *strings.Builder, columns int) {
	fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", columns))
}
