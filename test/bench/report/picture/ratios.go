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
	rowHeight  = 17
	barHeight  = 10
	axisHeight = 18
)

var (
	labelStyle = words(10.5, black)
	valueStyle = words(10.5, black)
)

// says has a colour and a word for each judgement. The words make losses as plain as wins without any colour.
var says = map[cells.Judgement]struct {
	color color.Color
	word  string
}{
	cells.BetterThan: {blue, ""},
	cells.WorseThan:  {vermillion, " worse"},
	cells.Unclear:    {dim, " unclear"},
	cells.TooFew:     {dim, " too few rounds"},
}

// ratios is a bar for each ratio, to the right from 1 where it is better, and to the left where it is worse.
func ratios(all []bar) Picture {
	f := frame{
		title: "sockmap against plain TCP",
		subtitle: "How many times better sockmap is: rates and throughput as they are, times and costs the other way round. " +
			"To the right of 1 it is better, to the left it is worse. Equal distances are equal factors.",
		legend: []entry{
			{"better", swatch(blue)}, {"worse", swatch(vermillion)}, {"unclear: 1 is in the interval", swatch(dim)},
			{"95 % interval", func(c draw.Canvas, at vg.Point) { whisker(c, at.X-markWidth/2, at.X+markWidth/2, at.Y) }},
			{"goal", goalMark},
		},
	}
	height := vg.Length(len(all)*rowHeight + axisHeight)
	return Picture{
		Name: "performance-ratios", Alt: "Ratios of sockmap against plain TCP with intervals and goals, for programs and for each kind of traffic", With: "goals",
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
	c.FillPolygon(fill, []vg.Point{{X: from, Y: y - barHeight/2}, {X: to, Y: y - barHeight/2}, {X: to, Y: y + barHeight/2}, {X: from, Y: y + barHeight/2}})
}

// whisker is white around black, so that it is seen on bars of each colour.
func whisker(c draw.Canvas, from, to, y vg.Length) {
	for _, style := range []draw.LineStyle{{Color: white, Width: 2.8}, {Color: black, Width: 1.2}} {
		c.StrokeLine2(style, from, y, to, y)
		for _, x := range []vg.Length{from, to} {
			c.StrokeLine2(style, x, y-3, x, y+3)
		}
	}
}

// goalMark is a diamond.
func goalMark(c draw.Canvas, at vg.Point) {
	for _, d := range []struct {
		radius vg.Length
		fill   color.Color
	}{{6.2, white}, {5, black}, {2.6, yellow}} {
		c.FillPolygon(d.fill, []vg.Point{{X: at.X - d.radius, Y: at.Y}, {X: at.X, Y: at.Y - d.radius}, {X: at.X + d.radius, Y: at.Y}, {X: at.X, Y: at.Y + d.radius}})
	}
}

func drawBars(c draw.Canvas, all []bar) {
	labels, texts := columns(all, c.Max.X-c.Min.X)
	data := draw.Crop(c, labels+8, -texts-8, axisHeight, 0)
	x := scaleOf(all, data)
	for _, m := range marks(x, data) {
		style := draw.LineStyle{Color: faint, Width: 0.8}
		if m == 1 {
			style = draw.LineStyle{Color: black, Width: 1.4}
		}
		c.StrokeLine2(style, x(m), data.Min.Y, x(m), data.Max.Y)
		c.FillText(aligned(tickStyle, draw.XCenter), vg.Point{X: x(m), Y: data.Min.Y - axisHeight/2}, strconv.FormatFloat(m, 'g', 4, 64))
	}
	y := data.Max.Y + rowHeight/2
	for _, b := range all {
		y -= rowHeight
		if b.heading != "" {
			c.FillText(bold(labelStyle), vg.Point{X: c.Min.X, Y: y - 1}, b.heading)
			continue
		}
		c.FillText(aligned(labelStyle, draw.XRight), vg.Point{X: c.Min.X + labels, Y: y}, fit(b.label, labelStyle, labels))
		box(c, says[b.ratio.Says].color, min(x(1), x(b.ratio.Value)), max(x(1), x(b.ratio.Value)), y)
		whisker(c, x(b.ratio.Low), x(b.ratio.High), y)
		if b.goal > 0 {
			goalMark(c, vg.Point{X: x(b.goal), Y: y})
		}
		c.FillText(valueStyle, vg.Point{X: c.Max.X - texts, Y: y}, valueText(b))
	}
}

func valueText(b bar) string { return cells.Times(b.ratio.Value, 1) + " ×" + says[b.ratio.Says].word }

// columns are how wide the names and the values are.
func columns(all []bar, width vg.Length) (labels, texts vg.Length) {
	for _, b := range all {
		if b.heading == "" {
			labels = max(labels, labelStyle.Width(b.label))
			texts = max(texts, valueStyle.Width(valueText(b)))
		}
	}
	return min(labels, width*0.45), texts
}

// scaleOf places ratios in data: equal factors are equal distances, so that half as fast is as far as twice as fast.
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

// candidates for marks of the axis, those that matter most first.
var candidates = []float64{1, 2, 0.5, 4, 0.25, 1.5, 3, 0.75, 8, 0.1, 16, 32, 2.5, 6, 5, 10, 20, 1.25, 0.9}

// marks are those candidates that have room.
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
