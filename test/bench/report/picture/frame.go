// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"strings"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const (
	pageWidth = 600 // points: 800 pixels of a page
	margin    = 14
)

// entry of a legend: a mark and its meaning.
type entry struct {
	label string
	mark  func(c draw.Canvas, at vg.Point) // centred, at most markWidth wide
}

const markWidth = 26

// frame is everything around the data: all texts at the left, as wide as the picture.
type frame struct {
	title, subtitle string
	legend          []entry
	caption         string // below
}

// measures of the lines of text
var (
	titleStyle    = bold(words(15, black))
	subtitleStyle = words(10.5, grey)
	legendStyle   = words(11, black)
	tickStyle     = words(10.5, black)
	captionStyle  = words(10, grey)
)

// lineHeight of one line of text, with the gap to the next.
func lineHeight(s text.Style) vg.Length { return s.Font.Size * 1.4 }

// draw draws the frame and returns the area for the data.
func (f frame) draw(c draw.Canvas) draw.Canvas {
	c = draw.Crop(c, margin, -margin, margin*0.7, -margin*0.7)
	y := c.Max.Y
	write := func(s text.Style, line string) {
		y -= lineHeight(s)
		put(c, s, c.Min.X, y+lineHeight(s)/2, line)
	}
	width := c.Max.X - c.Min.X
	for _, line := range wrap(f.title, titleStyle, width) {
		write(titleStyle, line)
	}
	for _, line := range wrap(f.subtitle, subtitleStyle, width) {
		write(subtitleStyle, line)
	}
	y -= 5
	for _, line := range rows(f.legend, width) {
		y -= lineHeight(legendStyle) + 2
		x := c.Min.X
		for _, e := range line {
			e.mark(c, vg.Point{X: x + markWidth/2, Y: y + lineHeight(legendStyle)/2})
			put(c, legendStyle, x+markWidth+5, y+lineHeight(legendStyle)/2, e.label)
			x += e.width()
		}
	}
	top := c.Max.Y - y + 7
	lines := wrap(f.caption, captionStyle, width)
	bottom := vg.Length(len(lines)) * lineHeight(captionStyle)
	y = c.Min.Y + bottom
	for _, line := range lines {
		write(captionStyle, line)
	}
	return draw.Crop(c, 0, 0, bottom+4, -top)
}

// height is the height that draw needs in addition to the data.
func (f frame) height() vg.Length {
	const width = pageWidth - 2*margin
	h := vg.Length(len(wrap(f.title, titleStyle, width)))*lineHeight(titleStyle) +
		vg.Length(len(wrap(f.subtitle, subtitleStyle, width)))*lineHeight(subtitleStyle) +
		vg.Length(len(rows(f.legend, width)))*(lineHeight(legendStyle)+2) +
		vg.Length(len(wrap(f.caption, captionStyle, width)))*lineHeight(captionStyle)
	return h + 2*margin*0.7 + 5 + 7 + 4
}

func (e entry) width() vg.Length { return markWidth + 5 + legendStyle.Width(e.label) + 18 }

// rows breaks a legend into lines that fit.
func rows(all []entry, width vg.Length) (lines [][]entry) {
	x := width + 1
	for _, e := range all {
		if x+e.width()-18 > width {
			lines, x = append(lines, nil), 0
		}
		lines[len(lines)-1] = append(lines[len(lines)-1], e)
		x += e.width()
	}
	return lines
}

// wrap breaks a text between words into lines that fit, and at ends of lines. A word that is too long has a
// line of its own.
func wrap(s string, style text.Style, width vg.Length) (lines []string) {
	for line := range strings.Lines(s) {
		begun := len(lines)
		for _, word := range strings.Fields(line) {
			if n := len(lines); n > begun && style.Width(lines[n-1]+" "+word) <= width {
				lines[n-1] += " " + word
				continue
			}
			lines = append(lines, word)
		}
	}
	return lines
}

// fit shortens a text so that it fits.
func fit(s string, style text.Style, width vg.Length) string {
	if style.Width(s) <= width {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && style.Width(string(runes)+"…") > width {
		runes = runes[:len(runes)-1]
	}
	return strings.TrimRight(string(runes), " ,") + "…"
}
