// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

const (
	formatTable = "table"
	formatJSON  = "json"
	formatWide  = "wide"
	formatText  = "text"
)

// printJSON writes one value, indented. Callers see to it that slices are not nil: arrays are never null.
func (a *app) printJSON(v any) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	if err == nil {
		_, err = a.stdout.Write(escaped(out.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// escaped writes what could steer a terminal as JSON's escapes: the encoder does so for the first 32 control characters only.
// Outside of strings, JSON has none of it.
func escaped(text []byte) []byte {
	steers := func(r rune) bool { return r >= 0x7f && !unicode.IsGraphic(r) }
	if bytes.IndexFunc(text, steers) < 0 {
		return text
	}
	out := make([]byte, 0, len(text)+16)
	for _, r := range string(text) {
		if !steers(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}

// printArray writes what printJSON would, piece by piece: indenting one big text copies it again and again.
func printArray[T any](w io.Writer, all []T) error {
	out := bufio.NewWriterSize(w, 64<<10)
	if len(all) == 0 {
		out.WriteByte('[')
	}
	for i := range all {
		begin := ",\n  "
		if i == 0 {
			begin = "[\n  "
		}
		piece, err := json.MarshalIndent(&all[i], "  ", "  ")
		if err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		out.WriteString(begin)
		out.Write(escaped(piece))
		if i == len(all)-1 {
			out.WriteByte('\n')
		}
	}
	out.WriteString("]\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// printTable tells on stderr which columns a narrow terminal has no room for.
func (a *app) printTable(t *term.Table, header bool) error {
	left, err := t.Write(a.stdout, a.width, header)
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	if len(left) > 0 {
		fmt.Fprintf(a.stderr, "(no room for %s: use a wider terminal, or -o json)\n", strings.Join(left, ", "))
	}
	return nil
}

// say prints what a verb has done.
func (a *app) say(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.stdout, format+"\n", args...); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// screen adds to a screen what commands print in common.
type screen struct{ *term.Screen }

func (a *app) screen(label int) *screen { return &screen{term.NewScreen(a.stdout, a.width, label)} }
