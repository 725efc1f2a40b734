// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
)

// The table of results stands between these lines of a document; the rest of it is its author's.
const (
	tableBegin = "<!-- vm: begin (written by test/vm, do not edit) -->\n"
	tableEnd   = "<!-- vm: end -->\n"
)

// updateTable writes the results into the document.
func updateTable(file string, outcomes []*outcome) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("update table: %w", err)
	}
	text, err := replaceTable(string(old), table(outcomes))
	if err != nil {
		return fmt.Errorf("update table in %s: %w", file, err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("update table: %w", err)
	}
	return nil
}

func replaceTable(document, table string) (string, error) {
	before, rest, begun := strings.Cut(document, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		return "", fmt.Errorf("find the lines %q and %q: not there", strings.TrimSpace(tableBegin), strings.TrimSpace(tableEnd))
	}
	return before + tableBegin + table + tableEnd + after, nil
}

// table has a row per kernel and a column per program. It holds nothing that differs between two runs with the same
// results, so that the document changes when the results do.
func table(outcomes []*outcome) string {
	var names []string
	for _, o := range outcomes {
		if len(o.Programs) > len(names) {
			names = names[:0]
			for _, r := range o.Programs {
				names = append(names, r.Name)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| kernel | Debian package | %s | kernel's complaints |\n", strings.Join(names, " | "))
	fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(names)+3))
	for _, o := range outcomes {
		fmt.Fprintf(&b, "| %s | %s |", o.Kernel, o.Version)
		for _, name := range names {
			fmt.Fprintf(&b, " %s |", o.cell(name))
		}
		fmt.Fprintf(&b, " %s |\n", complaints(o))
	}
	return b.String()
}

func (o *outcome) cell(program string) string {
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
		switch text := strings.Join(words, ", "); {
		case r.Summary == "":
			return text
		case r.Tests == nil && f == 0:
			// "1 passed" says nothing that the summary does not.
			return r.Summary
		default:
			return text + "; " + r.Summary
		}
	}
	return "**did not run**"
}

func complaints(o *outcome) string {
	if len(o.Troubles) == 0 {
		return "none"
	}
	return fmt.Sprintf("**%d**", len(o.Troubles))
}
