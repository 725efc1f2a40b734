// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"encoding/xml"
	"math"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func fixture(t *testing.T) []cells.Machine {
	t.Helper()
	machines, err := cells.Load("../testdata")
	if err != nil {
		t.Fatal(err)
	}
	return machines
}

// twoMachines are the same results twice, under two names.
func twoMachines(t *testing.T) []cells.Machine {
	t.Helper()
	one := fixture(t)
	other := one[0]
	other.CPU = "Another"
	return append(one, other)
}

// letter is a text of an SVG and the area that it covers.
type letter struct {
	text                     string
	left, right, top, bottom float64
}

func letters(t *testing.T, svg []byte) (all []letter) {
	t.Helper()
	var drawing struct {
		Group struct {
			Texts []struct {
				X     float64 `xml:"x,attr"`
				Y     float64 `xml:"y,attr"`
				Style string  `xml:"style,attr"`
				Text  string  `xml:",chardata"`
			} `xml:"text"`
		} `xml:"g"`
	}
	if err := xml.Unmarshal(svg, &drawing); err != nil {
		t.Fatal(err)
	}
	for _, d := range drawing.Group.Texts {
		style, ok := styleOf(d.Style)
		if !ok {
			t.Fatalf("%q has no size", d.Style)
		}
		size := float64(style.Font.Size)
		all = append(all, letter{d.Text, d.X, d.X + float64(style.Width(d.Text)), d.Y - size*0.75, d.Y + size*0.2})
	}
	return all
}

func TestNoTextIsOutsideOrOverAnother(t *testing.T) {
	testTexts(t, All(fixture(t)))
	testTexts(t, All(twoMachines(t)))
}

func TestEachMachineIsInEachPicture(t *testing.T) {
	for i, p := range All(twoMachines(t)) {
		svg, err := p.SVG()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(svg, []byte("Synthetic")) || !bytes.Contains(svg, []byte("Another")) {
			t.Errorf("%s lacks a machine", p.Name)
		}
		if one := All(fixture(t))[i]; p.height < one.height*1.3 {
			t.Errorf("%s is %v high for two machines, %v for one", p.Name, p.height, one.height)
		}
	}
}

func testTexts(t *testing.T, pictures []Picture) {
	t.Helper()
	if len(pictures) != len(Names) {
		t.Fatalf("%d pictures, want %d", len(pictures), len(Names))
	}
	for _, p := range pictures {
		svg, err := p.SVG()
		if err != nil {
			t.Fatal(err)
		}
		all := letters(t, svg)
		if len(all) < 10 {
			t.Errorf("%s has %d texts only", p.Name, len(all))
		}
		for i, a := range all {
			// The origin of the drawing is at the bottom, so positions above it are negative.
			if a.left < 5 || a.right > pageWidth-5 || a.bottom > -3 || a.top < -float64(p.height)+3 {
				t.Errorf("%s: %q is outside: %+v", p.Name, a.text, a)
			}
			for _, b := range all[:i] {
				if min(a.right, b.right)-max(a.left, b.left) > 0 && min(a.bottom, b.bottom)-max(a.top, b.top) > 0 {
					t.Errorf("%s: %q is over %q", p.Name, a.text, b.text)
				}
			}
		}
	}
}

func TestPicturesAreTheSameEachTime(t *testing.T) {
	one, two := All(fixture(t)), All(fixture(t))
	for i := range one {
		a, errA := one[i].SVG()
		b, errB := two[i].SVG()
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: two SVGs differ, %v, %v", one[i].Name, errA, errB)
		}
	}
}

func cell(name, cpus string, base result.Variant, variants ...result.Variant) result.Cell {
	c := result.Cell{Group: "rr", Name: name, Measure: "p50", Better: result.Lower, CPUs: cpus, Base: base,
		Samples: map[result.Variant][]float64{}}
	for _, v := range variants {
		c.Samples[v] = []float64{1, 2, 3}
	}
	return c
}

func TestSeriesIsTheOneOnOneCPUAgainstPlain(t *testing.T) {
	s := find([]result.Cell{
		cell("64 B", "two", "", result.Plain), cell("1 KiB", "two", "", result.Plain),
		cell("4 KiB", "two", "", result.Plain),
		cell("64 B against unix", "same", result.Unix, result.Unix, result.Sockmap),
		cell("1 KiB", "same", "", result.Plain, result.Sockmap),
		cell("64 B", "same", "", result.Plain, result.Sockmap),
		cell("64 B, slow", "same", "", result.Plain), cell("no size", "same", "", result.Plain),
	}, "rr", "p50", cells.Size)
	if s == nil || s.cpus != "same" || len(s.points) != 2 || s.points[0].at != 64 {
		t.Fatalf("%+v", s)
	}
	if got := named(s); got != "plain, unix and sockmap" {
		t.Errorf("it has %s", got)
	}
	if s := find([]result.Cell{cell("64 B", "same", "", result.Plain)}, "rr", "p50", cells.Size); s != nil {
		t.Errorf("a line of one point: %+v", s)
	}
}

func TestAxesHaveFewRoundMarks(t *testing.T) {
	for _, tt := range []struct {
		low, high float64
		want      string
		powers    bool
	}{
		{8, 91, "0 20 40 60 80 100", false},
		{40, 1500, "50 100 200 500 1000", true},
		{0.5, 60000, "1 10 100 1000 10000", true},
		{0, 0, "0", false},
	} {
		from, to, marks, powers := values(tt.low, tt.high)
		var labels []string
		for _, m := range marks {
			labels = append(labels, m.Label)
		}
		if got := strings.Join(labels, " "); got != tt.want || powers != tt.powers || tt.high > to ||
			tt.low < from || math.IsNaN(to) {
			t.Errorf("%v to %v: %q from %v to %v, %v", tt.low, tt.high, got, from, to, powers)
		}
	}
}

func TestNamesThatAreTooLongAreCut(t *testing.T) {
	long := strings.Repeat("word ", 60)
	if got := fit(long, labelStyle, 100); labelStyle.Width(got) > 100 || !strings.HasSuffix(got, "…") {
		t.Errorf("%q", got)
	}
	for _, line := range wrap(long+"\nend", labelStyle, 100) {
		if labelStyle.Width(line) > 100 {
			t.Errorf("%q", line)
		}
	}
}
