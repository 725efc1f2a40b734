// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
)

const (
	rowHeight  = 19
	barHeight  = 9
	axisHeight = 18
)

var (
	labelStyle = words(10.5, black)
	valueStyle = words(10.5, black)
)

// says has a colour and a word for each judgement. With the words, losses are as visible as wins without any
// colour.
var says = map[cells.Judgement]struct {
	color color.Color
	word  string
}{
	cells.BetterThan: {blue, ""},
	cells.WorseThan:  {vermillion, " worse"},
	cells.Unclear:    {dim, " unclear"},
	cells.TooFew:     {dim, " too few rounds"},
}

// ratios has a bar for each ratio: to the right from 1 if it is better, and to the left if it is worse.
func ratios(all []bar, source string) Picture {
	f := frame{
		title: "sockmap against plain TCP",
		subtitle: "How many times better sockmap is: rates and throughput as they are, times and costs the other way round. " +
			"To the right of 1 it is better, to the left it is worse. Equal distances are equal factors.",
		legend: []entry{
			{"better", swatch(blue)}, {"worse", swatch(vermillion)}, {"unclear: 1 is in the interval", swatch(dim)},
			{"95 % interval", func(c draw.Canvas, at vg.Point) {
				whisker(c, at.X-markWidth/2, at.X+markWidth/2, at.Y)
			}},
			{"goal", func(c draw.Canvas, at vg.Point) { goalMark(c, at.X, at.Y-barHeight) }},
		},
		caption: source,
	}
	height := vg.Length(len(all)*rowHeight + 2*axisHeight)
	return Picture{
		Name: "performance-ratios",
		Alt:  "Ratios of sockmap against plain TCP with intervals and goals, for programs and for each kind of traffic", With: "goals",
		height: height + f.height(),
		draw:   func(c draw.Canvas) { drawBars(f.draw(c), all) },
	}
}

func swatch(fill color.Color) func(c draw.Canvas, at vg.Point) {
	return func(c draw.Canvas, at vg.Point) {
		box(c, fill, at.X-markWidth/2, at.X+markWidth/2, at.Y)
	}
}

// box is a bar.
func box(c draw.Canvas, fill color.Color, from, to, y vg.Length) {
	c.FillPolygon(fill, []vg.Point{{X: from, Y: y - barHeight/2}, {X: to, Y: y - barHeight/2},
		{X: to, Y: y + barHeight/2}, {X: from, Y: y + barHeight/2}})
}

// whisker is white around black, so that it is visible on bars of each colour.
func whisker(c draw.Canvas, from, to, y vg.Length) {
	for _, style := range []draw.LineStyle{{Color: white, Width: 2.8}, {Color: black, Width: 1.2}} {
		c.StrokeLine2(style, from, y, to, y)
		for _, x := range []vg.Length{from, to} {
			c.StrokeLine2(style, x, y-3, x, y+3)
		}
	}
}

// goalMark points from above at the ratio that a bar at y has to reach.
func goalMark(c draw.Canvas, x, y vg.Length) {
	tip := y + barHeight/2
	for _, t := range []struct {
		half, low, high vg.Length
		fill            color.Color
	}{{6, -2, 7.5, white}, {4.2, 0, 6.3, black}} {
		c.FillPolygon(t.fill, []vg.Point{{X: x, Y: tip + t.low}, {X: x - t.half, Y: tip + t.high},
			{X: x + t.half, Y: tip + t.high}})
	}
}

func drawBars(c draw.Canvas, all []bar) {
	labels, texts := columns(all, c.Max.X-c.Min.X)
	data := draw.Crop(c, labels+8, -texts-8, axisHeight, -axisHeight)
	x := scaleOf(all, data)
	for _, m := range marks(x, data) {
		style := draw.LineStyle{Color: faint, Width: 0.8}
		if m == 1 {
			style = draw.LineStyle{Color: black, Width: 1.4}
		}
		c.StrokeLine2(style, x(m), data.Min.Y, x(m), data.Max.Y)
		for _, y := range []vg.Length{data.Min.Y - axisHeight/2, data.Max.Y + axisHeight/2} {
			put(c, aligned(tickStyle, draw.XCenter), x(m), y, strconv.FormatFloat(m, 'g', 4, 64))
		}
	}
	y := data.Max.Y + rowHeight/2
	for _, b := range all {
		y -= rowHeight
		if b.heading != "" {
			put(c, bold(labelStyle), c.Min.X, y, b.heading)
			continue
		}
		put(c, aligned(labelStyle, draw.XRight), c.Min.X+labels, y, fit(b.label, labelStyle, labels))
		box(c, says[b.ratio.Says].color, min(x(1), x(b.ratio.Value)), max(x(1), x(b.ratio.Value)), y)

		if b.goal > 0 {
			goalMark(c, x(b.goal), y)
		}
		whisker(c, x(b.ratio.Low), x(b.ratio.High), y)
		put(c, valueStyle, c.Max.X-texts, y, valueText(b))
	}
}

func valueText(b bar) string { return b.ratio.Text() + " ×" + says[b.ratio.Says].word }

// columns are the widths of the names and of the values.
func columns(all []bar, width vg.Length) (labels, texts vg.Length) {
	for _, b := range all {
		if b.heading == "" {
			labels = max(labels, labelStyle.Width(b.label))
			texts = max(texts, valueStyle.Width(valueText(b)))
		}
	}
	return min(labels, width*0.45), texts
}

// scaleOf places ratios on a logarithmic scale, so that half as fast is as far from 1 as twice as fast.
func scaleOf(all []bar, data draw.Canvas) func(ratio float64) vg.Length {
	low, high := 0.8, 1.25
	for _, b := range all {
		if b.heading == "" {
			low, high = min(low, b.ratio.Low), max(high, b.ratio.High, b.goal)
			if b.goal > 0 {
				low = min(low, b.goal)
			}
		}
	}
	from, to := math.Log(low*0.97), math.Log(high*1.03)
	return func(ratio float64) vg.Length {
		return data.Min.X + (data.Max.X-data.Min.X)*vg.Length((math.Log(ratio)-from)/(to-from))
	}
}

// candidates for marks of the axis, the most important first.
var candidates = []float64{1, 2, 0.5, 4, 0.25, 1.5, 3, 0.75, 0.8, 8, 0.1, 16, 32, 2.5, 6, 5, 10, 20, 1.25,
	0.9}

// marks are the candidates that fit.
func marks(x func(float64) vg.Length, data draw.Canvas) (kept []float64) {
	const room = 28
	for _, m := range candidates {
		fits := x(m) >= data.Min.X && x(m) <= data.Max.X
		for _, k := range kept {
			fits = fits && math.Abs(float64(x(m)-x(k))) >= room
		}
		if fits {
			kept = append(kept, m)
		}
	}
	return kept
}
