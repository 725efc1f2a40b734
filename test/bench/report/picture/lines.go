// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

const dataHeight = 250

// lines is a chart with a line for each variant.
type lines struct {
	frame
	unit   string  // unit of the values, as written above their axis
	factor float64 // factor from measured values to this unit
	series *series
	label  func(at float64) string
}

func (l lines) picture(name, alt, with string) Picture {
	for _, v := range l.series.variants() {
		l.legend = append(l.legend, entry{legends[v], func(c draw.Canvas, at vg.Point) {
			c.StrokeLine2(looks[v].line(), at.X-markWidth/2, at.Y, at.X+markWidth/2, at.Y)
			c.DrawGlyphNoClip(looks[v].glyph(), at)
		}})
	}
	return Picture{Name: name, Alt: alt, With: with, height: dataHeight + l.height(), draw: l.drawOn}
}

func (l lines) drawOn(c draw.Canvas) {
	c = l.frame.draw(c)
	unit := words(10.5, grey)
	_, _, _, powers := values(l.extent())
	if powers {
		l.unit += ", logarithmic"
	}
	put(c, unit, c.Min.X, c.Max.Y-lineHeight(unit)/2, l.unit)
	c = draw.Crop(c, 0, 0, 0, -lineHeight(unit)-5)

	p := plot.New()
	p.BackgroundColor = white
	l.axes(p)
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal = draw.LineStyle{Color: faint, Width: 0.8}
	p.Add(grid)
	// Sockmap has the widest line, and is drawn first, so that others that are as fast remain visible.
	order := l.series.variants()
	slices.SortStableFunc(order, func(a, b result.Variant) int { return rankOf(a) - rankOf(b) })
	for _, v := range order {
		xys := l.points(v)
		p.Add(&plotter.Line{XYs: xys, LineStyle: looks[v].line()},
			&plotter.Scatter{XYs: xys, GlyphStyle: looks[v].glyph()})
	}
	// Adding data widens axes, so they are restored.
	l.axes(p)
	p.Draw(c)
}

func rankOf(v result.Variant) int {
	if v == result.Sockmap {
		return 0
	}
	return 1
}

func (l lines) points(v result.Variant) (xys plotter.XYs) {
	for _, p := range l.series.points {
		if samples := p.cell.Samples[v]; len(samples) > 0 {
			xys = append(xys, plotter.XY{X: p.at, Y: result.Median(samples) * l.factor})
		}
	}
	return xys
}

// extent is the least and the greatest value.
func (l lines) extent() (low, high float64) {
	low = math.Inf(1)
	for _, v := range l.series.variants() {
		for _, xy := range l.points(v) {
			low, high = min(low, xy.Y), max(high, xy.Y)
		}
	}
	return low, high
}

func (l lines) axes(p *plot.Plot) {
	from, to, marks, powers := values(l.extent())
	p.Y.Min, p.Y.Max, p.Y.Tick.Marker = from, to, plot.ConstantTicks(marks)
	if powers {
		p.Y.Scale = plot.LogScale{}
	}
	p.Y.Padding, p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0, 0
	p.Y.Tick.Label = aligned(tickStyle, draw.XRight)

	all := l.series.points
	first, last := all[0].at, all[len(all)-1].at
	room := math.Pow(last/first, 0.06)
	p.X.Min, p.X.Max, p.X.Scale = first/room, last*room, plot.LogScale{}
	p.X.Tick.Marker = plot.ConstantTicks(l.sizes())
	p.X.Padding, p.X.Tick.Length = 0, 4
	p.X.LineStyle.Color, p.X.Tick.LineStyle.Color = grey, grey
	p.X.Tick.Label = aligned(tickStyle, draw.XCenter)
	p.X.Tick.Label.YAlign = draw.YTop
}

// sizes are the marks of the cells: the size, and below it the ratio of sockmap.
func (l lines) sizes() (marks []plot.Tick) {
	for _, p := range l.series.points {
		label := l.label(p.at)
		if r, ok := cells.Compare(p.cell, result.Sockmap); ok {
			label += "\n" + r.Text() + " ×"
		}
		marks = append(marks, plot.Tick{Value: p.at, Label: label})
	}
	return marks
}
