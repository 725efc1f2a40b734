// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The SVG refers to fonts by name, because embedded fonts would be ten times as large as the rest.
func (p Picture) SVG() ([]byte, error) {
	c := vgsvg.New(pageWidth, p.height)
	p.on(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	svg := textElement.ReplaceAllStringFunc(b.String(), held)
	// The letters of these fonts have the same widths, and one of the fonts is on nearly every machine.
	svg = strings.ReplaceAll(svg, "font-family:Liberation Sans;",
		"font-family:'Liberation Sans',Arial,Helvetica,sans-serif;")
	const root = "xmlns:xlink=\"http://www.w3.org/1999/xlink\""
	svg = strings.Replace(svg, root+">\n", fmt.Sprintf("%s role=\"img\">\n<title>%s</title>\n", root,
		html.EscapeString(p.Alt)), 1)
	return []byte(svg), nil
}

var (
	textElement = regexp.MustCompile(`(?s)<text [^>]*>[^<]*</text>`)
	fontSize    = regexp.MustCompile(`font-size:([0-9.]+)px`)
)

// held gives a text the width for which it was placed: with another font it would overlap its neighbours.
func held(element string) string {
	style, ok := styleOf(element)
	if !ok {
		return element
	}
	_, content, _ := strings.Cut(strings.TrimSuffix(element, "</text>"), ">")
	return strings.Replace(element, "<text ",
		fmt.Sprintf("<text textLength=\"%.5g\" lengthAdjust=\"spacingAndGlyphs\" ",
			style.Width(html.UnescapeString(content)).Points()), 1)
}

// styleOf reads a style as vgsvg writes it.
func styleOf(element string) (text.Style, bool) {
	m := fontSize.FindStringSubmatch(element)
	if m == nil {
		return text.Style{}, false
	}
	size, err := strconv.ParseFloat(m[1], 64)
	style := words(vg.Length(size), black)
	if strings.Contains(element, "font-weight:bold") {
		style = bold(style)
	}
	return style, err == nil
}
