// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

const (
	formatTable = "table"
	formatJSON  = "json"
	formatWide  = "wide"
	formatText  = "text"
)

// printJSON writes one value, indented. Callers see to it that slices are not nil: arrays are never null.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
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
		out.Write(piece)
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
func (a *app) printTable(t *table, header bool) error {
	left, err := t.write(a.stdout, a.width, header)
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
