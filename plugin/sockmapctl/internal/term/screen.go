// SPDX-License-Identifier: Apache-2.0

package term

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Screen prints lines that consist of a label and a text.
type Screen struct {
	out   *bufio.Writer
	width int // 0: any
	label int // columns of the words
}

// NewScreen writes to w, in at most width columns, of which the labels take label.
func NewScreen(w io.Writer, width, label int) *Screen {
	return &Screen{bufio.NewWriter(w), width, label}
}

// Line prints text behind a label. A long text continues on the next line; a label of "" continues the entry
// before.
func (s *Screen) Line(label, format string, args ...any) {
	room := s.width - s.label
	for i, part := range Wrap(Printable(fmt.Sprintf(format, args...)), room) {
		if i > 0 {
			label = ""
			part = "  " + part
		}
		fmt.Fprintf(s.out, "%-*s%s\n", s.label, label, part)
	}
}

// Title prints text on a line of its own, below an empty one.
func (s *Screen) Title(text string) { fmt.Fprintf(s.out, "\n%s\n", text) }

// Blank prints an empty line.
func (s *Screen) Blank() { fmt.Fprintln(s.out) }

func (s *Screen) Flush() error {
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// Wrap breaks text at spaces so that parts after the first fit with two columns of indentation.
func Wrap(text string, room int) []string {
	if room < 20 || utf8.RuneCountInString(text) <= room {
		return []string{text}
	}
	return fill(text, room, room-2)
}

// Fill breaks text at spaces into lines of at most this many columns.
func Fill(text string, columns int) string { return strings.Join(fill(text, columns, columns), "\n") }

// fill breaks text at spaces: the first part fits first columns, the others fit rest.
func fill(text string, first, rest int) []string {
	var parts []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		limit := first
		if len(parts) > 0 {
			limit = rest
		}
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > limit {
			parts = append(parts, line)
			line = word
			continue
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(parts, line)
}
