// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatName  = "name"
	formatWide  = "wide"
	formatText  = "text"
)

// Formats of -o, the default first. metrics alone has text in place of a table.
var (
	formatsOfObject = []string{formatTable, formatJSON, formatYAML}
	formatsOfList   = []string{formatTable, formatWide, formatJSON, formatYAML, formatName}
)

// apiVersion is the version of all documents of -o json and yaml. Within one version, fields are added, but
// none is removed, renamed or given another type. See docs/JSON.md.
const apiVersion = "sockmap-cni/v1"

// escaped replaces characters that could control a terminal with JSON escapes. The encoder does so only for
// the first 32 control characters. JSON has no such characters outside of strings.
func escaped(text []byte) []byte { return escapedBy(jsonEscape, text) }

// steers reports whether the character could control a terminal.
func steers(r rune) bool { return r >= 0x7f && !unicode.IsGraphic(r) }

func escapedBy(escape func(to []byte, r rune) []byte, text []byte) []byte {
	if bytes.IndexFunc(text, steers) < 0 {
		return text
	}
	out := make([]byte, 0, len(text)+16)
	for _, r := range string(text) {
		if steers(r) {
			out = escape(out, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

func jsonEscape(to []byte, r rune) []byte {
	for _, unit := range utf16.Encode([]rune{r}) {
		to = fmt.Appendf(to, `\u%04x`, unit)
	}
	return to
}

// printTable prints the table, and on stderr the names of columns that a narrow terminal has no space for.
func (a *app) printTable(t *term.Table) error { return a.printTableIn(t, a.width) }

// printTableIn prints in at most width columns; 0: no limit.
func (a *app) printTableIn(t *term.Table, width int) error {
	left, err := t.Write(a.stdout, width, !a.noHeaders)
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	if len(left) > 0 {
		text := fmt.Sprintf("(no room for %s: use a wider terminal, -o wide or -o json)",
			strings.Join(left, ", "))
		fmt.Fprintln(a.stderr, strings.Join(term.Wrap(text, width), "\n  "))
	}
	return nil
}

// say prints a line on standard output.
func (a *app) say(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.stdout, format+"\n", args...); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// screen adds to a term.Screen the lines that several commands print.
type screen struct{ *term.Screen }

func (a *app) screen(label int) *screen { return &screen{term.NewScreen(a.stdout, a.width, label)} }

func (a *app) sayAll(lines []string) error {
	for _, line := range lines {
		if err := a.say("%s", line); err != nil {
			return err
		}
	}
	return nil
}
