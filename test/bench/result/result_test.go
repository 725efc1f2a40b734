// SPDX-License-Identifier: Apache-2.0

package result

import (
	"path/filepath"
	"reflect"
	"testing"
)

func TestRatioIsAboveOneWhereBetter(t *testing.T) {
	samples := map[Variant][]float64{Plain: {30, 31, 29, 30, 30}, Sockmap: {15, 15, 15, 16, 14}}
	for better, want := range map[Better]float64{Lower: 2, Higher: 0.5} {
		r, ok := Cell{Better: better, Samples: samples}.Against(Sockmap)
		if !ok || r.Value != want || r.Low > want || r.High < want || r.Low == r.High {
			t.Errorf("%s: %+v %v, want %v", better, r, ok, want)
		}
	}
}

func TestIntervalGrowsWithTheSpread(t *testing.T) {
	width := func(plain ...float64) float64 {
		r, _ := Cell{Better: Lower, Samples: map[Variant][]float64{Plain: plain, Sockmap: {10, 10, 10, 10, 10}}}.Against(Sockmap)
		return r.High - r.Low
	}
	if calm, wild := width(20, 20, 21, 20, 20), width(20, 35, 12, 20, 28); calm >= wild {
		t.Errorf("interval %v for steady samples, %v for wild ones", calm, wild)
	}
}

func TestARoundIsComparedWithItself(t *testing.T) {
	// The machine is twice as fast in half of the rounds, for both.
	cell := Cell{Better: Higher, Samples: map[Variant][]float64{Plain: {10, 20, 10, 20, 10, 20}, Sockmap: {11, 22, 11, 22, 11, 22}}}
	r, ok := cell.Against(Sockmap)
	if want := 1.1; !ok || r.Value != want || r.Low != want || r.High != want {
		t.Errorf("%+v, want %v and no spread", r, want)
	}
	cell.Samples[Sockmap][1] = 0
	if r, ok = cell.Against(Sockmap); !ok || r.Low != 1.1 {
		t.Errorf("%+v, %v: a round with nothing counts", r, ok)
	}
}

func TestNothingToCompareIsTold(t *testing.T) {
	if _, ok := (Cell{Samples: map[Variant][]float64{Plain: {1}}}).Against(Sockmap); ok {
		t.Error("a ratio of nothing")
	}
	if _, ok := (Cell{Base: Unix, Samples: map[Variant][]float64{Plain: {1}, Sockmap: {1}}}).Against(Sockmap); ok {
		t.Error("compared with something else than the base")
	}
}

func TestMedianOfEvenNumber(t *testing.T) {
	if m := Median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Error(m)
	}
}

func TestFileSurvivesWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "r.json")
	f := File{Suite: "micro", Cells: []Cell{{Group: "rr", Name: "64 B", Samples: map[Variant][]float64{Plain: {1, 2}}}}}
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMachineIsKnown(t *testing.T) {
	m, err := ThisMachine([]string{"splice"})
	if err != nil || m.Kernel == "" || m.CPU == "" || m.CPUs < 1 || m.MemoryMiB < 1 || len(m.Guards) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	if got := model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"); got != "Some CPU @ 2 GHz" {
		t.Error(got)
	}
}
