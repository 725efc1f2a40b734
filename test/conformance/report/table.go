// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/known"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// The table stands between these lines of a document; the rest is its author's.
const (
	begin = "<!-- conformance: begin (written by test/conformance/report, do not edit) -->\n"
	end   = "<!-- conformance: end -->\n"
)

// Replace puts the table between the marked lines.
func Replace(document, table string) (string, error) {
	before, rest, begun := strings.Cut(document, begin)
	_, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		return "", fmt.Errorf("find the lines %q and %q: not there", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + table + end + after, nil
}

// A row is one case as it differs in one way, wherever it does.
type row struct {
	name, plain, accelerated string
	effect, reason           string
	seen                     []string
}

// Table is what was run, and the cases that differ. It holds nothing that differs
// between two runs with the same results.
func Table(reports []*suite.Report) string {
	var b strings.Builder
	b.WriteString("| run | where | cases | the same | differ | bulk bytes redirected |\n|---|---|---|---|---|---|\n")
	for i, r := range reports {
		fmt.Fprintf(&b, "| %d | %s | %d | %d | %d | %s |\n", i+1, title(r), len(r.Cases), r.Count(suite.Same), r.Count(suite.Differs), share(r))
	}
	b.WriteString("\n| case | plain TCP | accelerated | effect | why | runs |\n|---|---|---|---|---|---|\n")
	for _, row := range rows(reports) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", row.name, cell(row.plain), cell(row.accelerated),
			row.effect, cell(row.reason), strings.Join(row.seen, ", "))
	}
	return b.String()
}

// title names a run by what matters to its outcome.
func title(r *suite.Report) string {
	guards := "no guards"
	if len(r.Guards) > 0 {
		guards = "guards " + strings.Join(r.Guards, "+")
	}
	policy := ""
	if !r.Accepted {
		policy = ", hazards not accepted"
	}
	return fmt.Sprintf("%s, %s, %s%s", r.Kernel, r.Site, guards, policy)
}

// share is a class, as the number is never the same twice.
func share(r *suite.Report) string {
	bulk := r.Bulk()
	all := bulk.Redirected + bulk.TCP
	switch {
	case all == 0 || bulk.Redirected == 0:
		return "none"
	case bulk.Redirected*100 >= all*95:
		return "at least 95 %"
	case bulk.Redirected*2 >= all:
		return "more than half"
	default:
		return "less than half"
	}
}

// rows gathers what is the same on several runs. Cases that differ by chance (as
// who of several threads comes first) have the row of the first run.
func rows(reports []*suite.Report) []row {
	type key struct{ name, reason string }
	found := map[key]*row{}
	for i, r := range reports {
		known.Explain(r)
		for _, c := range r.Cases {
			if c.Verdict != suite.Differs {
				continue
			}
			k := key{c.Name, c.Reason}
			if found[k] == nil {
				found[k] = newRow(c)
			}
			found[k].seen = append(found[k].seen, fmt.Sprint(i+1))
		}
	}
	var all []row
	for _, r := range found {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b row) int {
		return cmp.Or(cmp.Compare(severity(b.effect), severity(a.effect)), cmp.Compare(a.reason, b.reason), cmp.Compare(a.name, b.name))
	})
	return all
}

func severity(effect string) int {
	order := []known.Effect{known.Harmless, known.Visible, known.Fails, known.Hangs, known.Loses}
	if i := slices.Index(order, known.Effect(effect)); i >= 0 {
		return i
	}
	return len(order) // nobody knows: first
}

// newRow shows the first thing that differs: what follows follows from it.
func newRow(c suite.Result) *row {
	d := c.Differences[0]
	r := &row{name: c.Name, plain: observed(d.Name, d.Plain), accelerated: observed(d.Name, d.Accelerated)}
	r.effect, r.reason = cmp.Or(c.Effect, "unknown"), cmp.Or(c.Reason, "Not known.")
	return r
}

func observed(name, value string) string {
	if value == "" {
		return name + ": (nothing)"
	}
	return name + ": " + value
}

// cell keeps a value in one cell, and short.
func cell(s string) string {
	s = strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(s)
	if len(s) > 300 {
		s = s[:300] + "..."
	}
	return s
}
