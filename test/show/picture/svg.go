// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// style is set by SGR sequences.
type style struct {
	bold, faint bool
	colour      int // 0: the terminal's default; else 30 to 37
}

// colours of a dark theme, for the colours that sockmapctl uses.
var colours = map[int]string{31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 36: "#79c0ff"}

const (
	cellWidth, lineHeight = 8.4, 19
	margin                = 18
	baseline              = 14
)

// picture draws the output of tmux capture-pane -e.
func picture(capture string, columns, rows int) string {
	width, height := float64(columns)*cellWidth+2*margin, rows*lineHeight+2*margin
	var b strings.Builder
	fmt.Fprintf(&b,
		`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d" role="img">`+"\n",
		width, height, width, height)
	b.WriteString("<title>sockmapctl top</title>\n")
	b.WriteString(`<rect width="100%" height="100%" rx="8" fill="#0d1117"/>` + "\n")
	b.WriteString(`<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14" fill="#e6edf3" xml:space="preserve">` + "\n")
	var now style
	for y, line := range strings.Split(strings.TrimRight(capture, "\n"), "\n") {
		column := 0
		for _, run := range runs(line, &now) {
			// Each run has its position and length, so that a font of another width does not matter.
			if strings.TrimSpace(run.text) != "" {
				fmt.Fprintf(&b,
					`<text x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s>%s</text>`+"\n",
					margin+float64(column)*cellWidth, margin+y*lineHeight+baseline, float64(len([]rune(run.text)))*cellWidth,
					run.style.attributes(), html.EscapeString(run.text))
			}
			column += len([]rune(run.text))
		}
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

func (s style) attributes() (text string) {
	if s.bold {
		text += ` font-weight="bold"`
	}
	if s.faint {
		text += ` opacity="0.6"`
	}
	if c := colours[s.colour]; c != "" {
		text += fmt.Sprintf(` fill=%q`, c)
	}
	return text
}

type run struct {
	style style
	text  string
}

// runs splits a line where its style changes. Styles continue in the next line.
func runs(line string, now *style) (all []run) {
	for line != "" {
		text, rest, found := strings.Cut(line, "\x1b[")
		if text != "" {
			all = append(all, run{*now, text})
		}
		if !found {
			break
		}
		codes, after, _ := strings.Cut(rest, "m")
		for _, code := range strings.Split(codes, ";") {
			now.set(code)
		}
		line = after
	}
	return all
}

func (s *style) set(code string) {
	n, _ := strconv.Atoi(code) // an empty one is 0
	switch {
	case n == 0:
		*s = style{}
	case n == 1:
		s.bold = true
	case n == 2:
		s.faint = true
	case n == 22:
		s.bold, s.faint = false, false
	case n == 39:
		s.colour = 0
	case n >= 30 && n <= 37:
		s.colour = n
	}
}
