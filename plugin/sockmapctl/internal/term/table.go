// SPDX-License-Identifier: Apache-2.0

package term

import (
	"bufio"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Column defines a column, and what happens to it on a narrow terminal.
type Column struct {
	Title   string
	Right   bool // numbers
	Min     int  // may be cut down to this width; 0: never cut
	KeepEnd bool // what is cut goes at the front: the end of a path or address tells more
	Drop    int  // left out before columns of lower numbers when cutting is not enough; 0: never
}

// Table prints rows below titles. text/tabwriter aligns all columns to the same side and cuts nothing.
type Table struct {
	Columns []Column
	rows    [][]string
	// Paint adds colours to a cell of row and column; row -1 has the titles. nil: no colours.
	Paint func(row, column int, text string) string
}

const (
	gap      = "  "
	ellipsis = "…"
)

func (t *Table) Add(cells ...string) {
	for i := range cells {
		cells[i] = Printable(cells[i])
	}
	t.rows = append(t.rows, cells)
}

// Printable replaces characters that could control the terminal, and returns "-" for an empty cell, which awk
// would miss.
func Printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return '?'
	}, s)
}

// PrintableLines cleans text of several lines, such as joined errors.
func PrintableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Clean(line)
	}
	return strings.Join(lines, "\n")
}

// Write prints the table in at most width columns; 0: no limit. It returns the titles of omitted columns.
func (t *Table) Write(w io.Writer, width int, header bool) (left []string, err error) {
	widths := t.natural()
	shown := make([]bool, len(t.Columns))
	for i := range shown {
		shown[i] = true
	}
	if width > 0 {
		left = t.leaveOut(widths, shown, width)
		t.shrink(widths, shown, width)
	}
	out := bufio.NewWriter(w)
	if header {
		titles := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			titles[i] = c.Title
		}
		t.line(out, -1, titles, widths, shown)
	}
	for i, row := range t.rows {
		t.line(out, i, row, widths, shown)
	}
	return left, out.Flush()
}

func (t *Table) natural() []int {
	widths := make([]int, len(t.Columns))
	for i, c := range t.Columns {
		widths[i] = utf8.RuneCountInString(c.Title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	return widths
}

// total adds up the widths of the columns that are shown; with least, columns count as cut to their minimum.
func (t *Table) total(widths []int, shown []bool, least bool) int {
	sum := 0
	for i, c := range t.Columns {
		if !shown[i] {
			continue
		}
		if sum > 0 {
			sum += len(gap)
		}
		if least && c.Min > 0 {
			sum += min(widths[i], max(c.Min, utf8.RuneCountInString(c.Title)))
		} else {
			sum += widths[i]
		}
	}
	return sum
}

func (t *Table) leaveOut(widths []int, shown []bool, width int) (left []string) {
	for t.total(widths, shown, true) > width {
		worst := -1
		for i, c := range t.Columns {
			if shown[i] && c.Drop > 0 && (worst < 0 || c.Drop > t.Columns[worst].Drop) {
				worst = i
			}
		}
		if worst < 0 {
			return left
		}
		shown[worst] = false
		left = append(left, t.Columns[worst].Title)
	}
	return left
}

// shrink narrows the widest column that may be cut, until all fit. Of equal ones it narrows the last, because
// the first columns matter most.
func (t *Table) shrink(widths []int, shown []bool, width int) {
	for excess := t.total(widths, shown, false) - width; excess > 0; excess-- {
		widest := -1
		for i, c := range t.Columns {
			if shown[i] && c.Min > 0 && widths[i] > max(c.Min, utf8.RuneCountInString(c.Title)) &&
				(widest < 0 || widths[i] >= widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func (t *Table) line(out *bufio.Writer, row int, cells []string, widths []int, shown []bool) {
	pad := 0 // owed to the cell before; at the end of a line nobody collects it
	first := true
	for i, c := range t.Columns {
		if !shown[i] {
			continue
		}
		if !first {
			out.WriteString(gap)
		}
		first = false
		writeSpaces(out, pad)
		cell := cut(cells[i], widths[i], c.KeepEnd)
		pad = widths[i] - utf8.RuneCountInString(cell)
		if c.Right {
			writeSpaces(out, pad)
			pad = 0
		}
		if t.Paint != nil {
			cell = t.Paint(row, i, cell)
		}
		out.WriteString(cell)
	}
	out.WriteByte('\n')
}

func writeSpaces(out *bufio.Writer, n int) {
	for range n {
		out.WriteByte(' ')
	}
}

func cut(s string, width int, keepEnd bool) string {
	n := utf8.RuneCountInString(s)
	if n <= width {
		return s
	}
	runes := []rune(s)
	if keepEnd {
		return ellipsis + string(runes[n-width+1:])
	}
	return string(runes[:width-1]) + ellipsis
}

// With adds columns if yes is true, for columns that only some formats have.
func (t *Table) With(yes bool, columns ...Column) {
	if yes {
		t.Columns = append(t.Columns, columns...)
	}
}

func Clean(s string) string {
	if s == "" {
		return ""
	}
	return Printable(s)
}

// OrList is "a, b or c".
func OrList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
