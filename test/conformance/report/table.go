// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/known"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/report/summary"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
	"github.com/sockmap-cni/sockmap-cni/test/marked"
)

// The tables are between the marked lines of a document.
var section = marked.Section{Name: "conformance", Target: "docs"}

// Run is a report and the name of its kernel.
type Run struct {
	Name   string
	Report *suite.Report
}

// A row is one case that differs for one reason, on any number of kernels.
type row struct {
	name, plain, accelerated string
	seen                     []string // names of runs
}

// A group has the rows with the same reason.
type group struct {
	effect, reason string
	refusal        bool
	rows           map[string]*row
}

// Table lists the runs, and below them the cases that differ: the worst first, grouped by reason, refusals at
// the end. Two runs with the same results give the same table.
func Table(runs []Run) string {
	var b strings.Builder
	b.WriteString("| kernel | release | guards | cases | the same | refused | differ otherwise |\n|---|---|---|---|---|---|---|\n")
	for _, r := range runs {
		c := summary.Of(r.Report)
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %d | %d |\n", r.Name, release(r), guards(r.Report),
			c.Cases, c.Same, c.Refused, c.Cases-c.Same-c.Refused)
	}
	title := ""
	for _, g := range groups(runs) {
		if now := g.title(); now != title {
			title = now
			fmt.Fprintf(&b, "\n## %s\n", title)
		}
		fmt.Fprintf(&b, "\n%s\n\n| case | plain TCP | accelerated | kernels |\n|---|---|---|---|\n", g.reason)
		for _, r := range g.sorted() {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, cell(r.plain), cell(r.accelerated), where(r.seen, runs))
		}
	}
	return b.String()
}

// release removes the part of the release that somebody has chosen for the build of this machine's own
// kernel.
func release(r Run) string {
	if r.Name != "host" {
		return r.Report.Kernel
	}
	return r.Report.Kernel[:len(r.Report.Kernel)-len(strings.TrimLeft(r.Report.Kernel, "0123456789."))]
}

func guards(r *suite.Report) string {
	text := "none"
	if len(r.Guards) > 0 {
		text = strings.Join(r.Guards, ", ")
	}
	if !r.Accepted {
		text += "; hazards not accepted"
	}
	return text
}

// where names the kernels on which a case differs.
func where(seen []string, runs []Run) string {
	if len(runs) > 1 && len(seen) == len(runs) {
		return "all"
	}
	return strings.Join(seen, ", ")
}

// groups joins rows that are the same in several runs. Cases that differ by chance (for example by the order
// of threads) have the row of the first run.
func groups(runs []Run) []*group {
	found := map[string]*group{}
	for _, r := range runs {
		known.Explain(r.Report)
		for _, c := range r.Report.Cases {
			if c.Verdict != suite.Differs {
				continue
			}
			effect, reason := cmp.Or(c.Effect, "unknown"), cmp.Or(c.Reason, "Not known.")
			g := found[effect+reason]
			if g == nil {
				g = &group{effect: effect, reason: reason, refusal: c.Refusal, rows: map[string]*row{}}
				found[effect+reason] = g
			}
			if g.rows[c.Name] == nil {
				g.rows[c.Name] = newRow(c)
			}
			g.rows[c.Name].seen = append(g.rows[c.Name].seen, r.Name)
		}
	}
	all := make([]*group, 0, len(found))
	for _, g := range found {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.severity(), a.severity()), cmp.Compare(a.reason, b.reason))
	})
	return all
}

// effects are the headings, from the least effect to the worst.
var effects = [...]struct {
	effect known.Effect
	title  string
}{
	{known.Harmless, "Harmless: a program that follows the manual pages works the same"},
	{known.Visible, "Visible: a program that looks sees it, and is not hindered"},
	{known.Fails, "Fails: a call fails that would not"},
	{known.Hangs, "Hangs: a program waits in vain"},
	{known.Loses, "Loses data: bytes are missing, without an error"},
}

// severity orders the groups. Unexplained differences are the worst.
func (g *group) severity() int {
	if g.refusal {
		return -1
	}
	for i, e := range effects {
		if g.effect == string(e.effect) {
			return i
		}
	}
	return len(effects)
}

func (g *group) title() string {
	switch i := g.severity(); {
	case i < 0:
		return "Refused: the call fails as on a kernel without the feature, and programs have a fallback"
	case i < len(effects):
		return effects[i].title
	}
	return "Not known"
}

func (g *group) sorted() []*row {
	rows := make([]*row, 0, len(g.rows))
	for _, r := range g.rows {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Compare(a.name, b.name) })
	return rows
}

// newRow shows the first difference, because the others follow from it.
func newRow(c suite.Result) *row {
	if len(c.Differences) == 0 {
		return &row{name: c.Name}
	}
	d := c.Differences[0]
	return &row{name: c.Name, plain: observed(d.Name, steady(d.Plain, d.Plain)),
		accelerated: observed(d.Name, steady(d.Accelerated, d.Plain))}
}

// bulk is the form in which the suite records many bytes.
var bulk = regexp.MustCompile(`\d+ bytes [0-9a-f]{12}`)

// steady removes the number and the hash of bytes from an observation, unless they are as on plain TCP: the
// place where a stream breaks off varies from run to run.
func steady(value, plain string) string {
	return bulk.ReplaceAllStringFunc(value, func(found string) string {
		if !strings.Contains(plain, found) {
			return "other bytes"
		}
		return found[:strings.LastIndexByte(found, ' ')]
	})
}

func observed(name, value string) string {
	if value == "" {
		return name + ": (nothing)"
	}
	return name + ": " + value
}

// maxCell is the number of characters of a value that are shown.
const maxCell = 160

// cell formats a value for one short cell of a table.
func cell(s string) string {
	if r := []rune(s); len(r) > maxCell {
		s = string(r[:maxCell]) + " …"
	}
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(s)
}
