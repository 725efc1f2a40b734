// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"image/color"

	stdfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// The colours of Okabe and Ito, which are distinguishable with every kind of colour vision.
var (
	orange     = color.RGBA{0xE6, 0x9F, 0x00, 0xFF}
	green      = color.RGBA{0x00, 0x9E, 0x73, 0xFF}
	blue       = color.RGBA{0x00, 0x72, 0xB2, 0xFF}
	vermillion = color.RGBA{0xD5, 0x5E, 0x00, 0xFF}

	black = color.RGBA{0x1A, 0x1A, 0x1A, 0xFF}
	grey  = color.RGBA{0x55, 0x55, 0x55, 0xFF}
	dim   = color.RGBA{0x99, 0x99, 0x99, 0xFF}
	faint = color.RGBA{0xE4, 0xE4, 0xE4, 0xFF}
	white = color.RGBA{0xFF, 0xFF, 0xFF, 0xFF}
)

// look distinguishes a variant from the others, by shape as well as by colour.
type look struct {
	color color.Color
	shape draw.GlyphDrawer
	width vg.Length
}

// looks of the drawn variants.
var looks = map[result.Variant]look{
	result.Plain:    {vermillion, draw.BoxGlyph{}, 1.6},
	result.Loopback: {orange, draw.PyramidGlyph{}, 1.6},
	result.Unix:     {green, diamond{}, 1.6},
	result.Sockmap:  {blue, draw.CircleGlyph{}, 3.6},
}

func (l look) glyph() draw.GlyphStyle {
	return draw.GlyphStyle{Color: l.color, Radius: l.width/2 + 2.6, Shape: l.shape}
}

func (l look) line() draw.LineStyle { return draw.LineStyle{Color: l.color, Width: l.width} }

// diamond is a filled glyph.
type diamond struct{}

// DrawGlyph implements draw.GlyphDrawer.
func (diamond) DrawGlyph(c *draw.Canvas, s draw.GlyphStyle, at vg.Point) {
	r := s.Radius * 1.3
	c.FillPolygon(s.Color, []vg.Point{{X: at.X - r, Y: at.Y}, {X: at.X, Y: at.Y - r}, {X: at.X + r, Y: at.Y},
		{X: at.X, Y: at.Y + r}})
}

// legends are the names of the drawn variants where nothing else explains them.
var legends = map[result.Variant]string{
	result.Plain:    "plain (veth and bridge)",
	result.Loopback: "loopback (one container)",
	result.Unix:     "Unix socket",
	result.Sockmap:  "sockmap",
}

// words is the style of a text of this size, aligned at its left and to the middle of its line.
func words(size vg.Length, c color.Color) text.Style {
	return text.Style{
		Color:   c,
		Font:    font.Font{Typeface: "Liberation", Variant: "Sans", Size: size},
		YAlign:  draw.YCenter,
		Handler: plot.DefaultTextHandler,
	}
}

func bold(s text.Style) text.Style {
	s.Font.Weight = stdfont.WeightBold
	return s
}

// put writes a text so that the middle of its lower-case letters, not of its box, is at y.
func put(c draw.Canvas, s text.Style, x, y vg.Length, what string) {
	c.FillText(s, vg.Point{X: x, Y: y + s.Font.Size*0.13}, what)
}

func aligned(s text.Style, x draw.XAlignment) text.Style {
	s.XAlign = x
	return s
}
