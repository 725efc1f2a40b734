// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/marked"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// The tables of results are between marked lines of a document: kernels that run for each change, and the
// others.
var (
	section       = marked.Section{Name: "vm", Target: "docs"}
	seldomSection = marked.Section{Name: "vm-seldom", Target: "docs"}
)

// writeTable is the command table.
func writeTable(out io.Writer, args []string) error {
	o := newOptions("vm table")
	into := o.flags.String("into", "", "replace the tables of this `document` (default: print them)")
	seldom := o.flags.Bool("seldom", false, "only that of the kernels that run seldom")
	if err := o.parse(args); err != nil {
		return err
	}
	if o.flags.NArg() > 0 {
		return fmt.Errorf("%w: %q", flag.ErrHelp, o.flags.Args())
	}
	kept, err := readKept(o.kept(), namesOf(o.all, false))
	if err != nil {
		return err
	}
	if err := seldomSection.Put(out, *into, seldomTable(o.all, kept)); err != nil || *seldom {
		return err
	}
	outcomes, err := readOutcomes(o.results(), append(namesOf(o.all, true), hostName))
	if err != nil {
		return err
	}
	return section.Put(out, *into, table(outcomes))
}

// seldomTable has a row per kernel, with the date and the commit of its run.
func seldomTable(wanted []kernel.Wanted, outcomes []*outcome) string {
	var b strings.Builder
	b.WriteString("| kernel | run | parameters | ADD | accelerated by default | hazards present | guards that run | data path | probes | " +
		"conformance: same, of cases | hangs, loses, unknown | kernel's complaints |\n|" + strings.Repeat("---|",
		12) + "\n")
	for _, o := range outcomes {
		i := slices.IndexFunc(wanted, func(w kernel.Wanted) bool { return w.Name == o.Kernel })
		w := wanted[i]
		if o.Release == "" {
			fmt.Fprintf(&b, "| %s | %s | %s%s\n", o.Kernel, o.Date, quoted(w.Parameters), strings.Repeat(" |", 10))
			continue
		}
		cells := []string{
			o.Kernel + ": " + o.Release + ", " + o.Version, o.Date + ", " + o.Commit, quoted(w.Parameters),
			o.summaryOf("plugin"),
		}
		if w.Only != nil && !slices.Contains(w.Only, doctorProgram) {
			cells = append(cells, slices.Repeat([]string{"-"}, 7)...)
		} else {
			cells = append(cells, o.byDefault(), o.Facts.present(), o.Facts.active(), o.dataPathCell(),
				o.testsCell("hazard"))
			cells = append(cells, o.conformanceCells()...)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(cells, " | "), o.complaints())
	}
	return b.String()
}

func quoted(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return "`" + strings.Join(words, " ") + "`"
}

func (o *outcome) summaryOf(program string) string {
	for _, r := range o.Programs {
		if r.Name == program {
			return r.Summary
		}
	}
	return "**did not run**"
}

// present are the hazards that programs meet by default, if no hazard is accepted.
func (f facts) present() string {
	var names []string
	for _, h := range f.Hazards {
		if h.State == "accepted" || h.State == "present" {
			names = append(names, h.Name)
		}
	}
	return orNobody(names)
}

func (f facts) active() string {
	var names []string
	for _, g := range f.Guards {
		if g.Active {
			names = append(names, g.Name)
		}
	}
	return orNobody(names)
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (o *outcome) conformanceCells() []string {
	c := o.Facts.Conformance
	if c == nil {
		return []string{"**did not run**", ""}
	}
	return []string{fmt.Sprintf("%d of %d", c.Same, c.Cases),
		fmt.Sprintf("%s, %s, %s", bold(c.Hangs), bold(c.Loses), bold(c.Unknown))}
}

// table has a column per kernel. Two runs with the same results give the same table, so that the document
// changes only when the results do.
func table(outcomes []*outcome) string {
	var b strings.Builder
	row := func(title string, cell func(o *outcome) string) {
		fmt.Fprintf(&b, "| %s |", title)
		for _, o := range outcomes {
			fmt.Fprintf(&b, " %s |", cell(o))
		}
		b.WriteByte('\n')
	}
	row("", (*outcome).title)
	fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(outcomes)+1))
	row("accelerated by default", (*outcome).byDefault)
	for _, name := range named(outcomes, func(f facts) (all []string) {
		for _, h := range f.Hazards {
			all = append(all, h.Name)
		}
		return all
	}) {
		row("hazard "+name, func(o *outcome) string { return o.Facts.hazardCell(name) })
	}
	for _, name := range named(outcomes, func(f facts) (all []string) {
		for _, g := range f.Guards {
			all = append(all, g.Name)
		}
		return all
	}) {
		row("guard "+name, func(o *outcome) string { return o.Facts.guardCell(name) })
	}
	row("tests of the data path", (*outcome).dataPathCell)
	row("tests of the probes", func(o *outcome) string { return o.testsCell("hazard") })
	for _, line := range countLines {
		row(line.title, func(o *outcome) string {
			if o.Facts.Conformance == nil {
				return "**did not run**"
			}
			return line.cell(o)
		})
	}
	row("kernel's complaints", (*outcome).complaints)
	return b.String()
}

// countLines are the rows about the conformance suite.
var countLines = []struct {
	title string
	cell  func(o *outcome) string
}{
	{"conformance: cases", func(o *outcome) string { return fmt.Sprint(o.Facts.Conformance.Cases) }},
	{"the same as on plain TCP", func(o *outcome) string { return fmt.Sprint(o.Facts.Conformance.Same) }},
	{"refused, so that programs fall back",
		func(o *outcome) string { return fmt.Sprint(o.Facts.Conformance.Refused) }},
	{"differ, harmless or merely visible",
		func(o *outcome) string { return fmt.Sprint(o.Facts.Conformance.Lesser) }},
	{"a call fails", func(o *outcome) string { return fmt.Sprint(o.Facts.Conformance.Fails) }},
	{"a program hangs", func(o *outcome) string { return bold(o.Facts.Conformance.Hangs) }},
	{"data is lost", func(o *outcome) string { return bold(o.Facts.Conformance.Loses) }},
	{"not known why", func(o *outcome) string { return bold(o.Facts.Conformance.Unknown) }},
	{"bulk bytes redirected", func(o *outcome) string { return o.Facts.Conformance.Bulk }},
}

func bold(n int) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("**%d**", n)
}

// named collects the names that any outcome has, in their order.
func named(outcomes []*outcome, of func(facts) []string) (all []string) {
	for _, o := range outcomes {
		for _, name := range of(o.Facts) {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}

func (o *outcome) title() string {
	if o.Kernel == hostName {
		return o.Version + " (host)"
	}
	return "Debian " + o.Version
}

func (o *outcome) byDefault() string {
	switch {
	case o.Facts.Hazards == nil:
		return "**did not run**"
	case len(o.Facts.Open) == 0:
		return "**yes**"
	}
	return "no: " + strings.Join(o.Facts.Open, ", ")
}

func (f facts) hazardCell(name string) string {
	i := slices.IndexFunc(f.Hazards, func(h finding) bool { return h.Name == name })
	if i < 0 {
		return "not looked at"
	}
	switch h := f.Hazards[i]; h.State {
	case "accepted":
		return "**present**" // it was accepted for this run only
	case "present":
		return "present (" + h.Severity + ")"
	default:
		return h.State
	}
}

func (f facts) guardCell(name string) string {
	i := slices.IndexFunc(f.Guards, func(g guard) bool { return g.Name == name })
	if i < 0 {
		return "not looked at"
	}
	g := f.Guards[i]
	switch {
	case g.Active:
		return "at `" + g.Hook + "`"
	case strings.HasPrefix(g.Why, "not needed"): // datapath.GuardState.Needless, in words
		return "not needed"
	}
	return "**refused by the kernel**"
}

// dataPathCell is the result of all tests of the data path, or of those that a kernel runs instead.
func (o *outcome) dataPathCell() string {
	const part = "sockets"
	if slices.ContainsFunc(o.Programs, func(r *result) bool { return r.Name == part }) {
		return o.testsCell(part) + ", of those that kernels can differ in"
	}
	return o.testsCell("datapath")
}

func (o *outcome) testsCell(program string) string {
	for _, r := range o.Programs {
		if r.Name != program {
			continue
		}
		p, f, s := r.count()
		words := []string{fmt.Sprintf("%d passed", p)}
		if f > 0 {
			words = append(words, fmt.Sprintf("**%d failed**", f))
		}
		if s > 0 {
			words = append(words, fmt.Sprintf("%d skipped", s))
		}
		return strings.Join(words, ", ")
	}
	return "**did not run**"
}

func (o *outcome) complaints() string {
	switch {
	case o.Kernel == hostName:
		return "not looked at"
	case len(o.Troubles) == 0:
		return "none"
	}
	return fmt.Sprintf("**%d**", len(o.Troubles))
}
