// SPDX-License-Identifier: Apache-2.0

package result

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"
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
		r, _ := Cell{Better: Lower, Samples: map[Variant][]float64{Plain: plain,
			Sockmap: {10, 10, 10, 10, 10}}}.Against(Sockmap)
		return r.High - r.Low
	}
	if calm, wild := width(20, 20, 21, 20, 20), width(20, 35, 12, 20, 28); calm >= wild {
		t.Errorf("interval %v for steady samples, %v for wild ones", calm, wild)
	}
}

func TestRatioIsTakenWithinEachRound(t *testing.T) {
	// The machine is twice as fast in half of the rounds, for both.
	cell := Cell{Better: Higher, Samples: map[Variant][]float64{Plain: {10, 20, 10, 20, 10, 20},
		Sockmap: {11, 22, 11, 22, 11, 22}}}
	r, ok := cell.Against(Sockmap)
	if want := 1.1; !ok || r.Value != want || r.Low != want || r.High != want {
		t.Errorf("%+v, want %v and no spread", r, want)
	}
	cell.Samples[Sockmap][1] = 0
	if r, ok = cell.Against(Sockmap); !ok || r.Low != 1.1 {
		t.Errorf("%+v, %v: a round with nothing counts", r, ok)
	}
}

func TestRatioNeedsSamplesOfItsBase(t *testing.T) {
	if _, ok := (Cell{Samples: map[Variant][]float64{Plain: {1}}}).Against(Sockmap); ok {
		t.Error("a ratio of nothing")
	}
	if _, ok := (Cell{Base: Unix, Samples: map[Variant][]float64{Plain: {1},
		Sockmap: {1}}}).Against(Sockmap); ok {
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
	f := File{Suite: "micro", Cells: []Cell{{Group: "rr", Name: "64 B",
		Samples: map[Variant][]float64{Plain: {1, 2}}}}}
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
	if m.Fault <= 0 || m.PageTables == "" {
		t.Errorf("page tables %q, a fault takes %v", m.PageTables, m.Fault)
	}
	if got := field("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n",
		"model name"); got != "Some CPU @ 2 GHz" {
		t.Error(got)
	}
}

func TestPageTablesAreDetectedByTheCostOfAFault(t *testing.T) {
	const guest, metal, arm = "flags\t: fpu hypervisor pti\n", "flags\t: fpu pti\n", "Features\t: fp\n"
	for _, tt := range []struct {
		cpuinfo string
		fault   time.Duration
		want    string
	}{
		{guest, 18 * time.Microsecond, ShadowedPageTables}, {guest, 600 * time.Nanosecond, HardwarePageTables},
		{guest, 4 * time.Microsecond, UnknownPageTables}, {metal, 300 * time.Nanosecond, HardwarePageTables},
		{metal, 18 * time.Microsecond, UnknownPageTables}, {arm, 18 * time.Microsecond, ShadowedPageTables},
		{guest, 0, UnknownPageTables},
	} {
		if got := judgePageTables(tt.cpuinfo, tt.fault); got != tt.want {
			t.Errorf("%q, %v: %s, want %s", tt.cpuinfo, tt.fault, got, tt.want)
		}
	}
}

func TestMachinesOfOneKindHaveOneName(t *testing.T) {
	m := Machine{Kernel: "6.12.107+deb13-amd64", CPU: "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
		PageTables: HardwarePageTables}
	if got, want := m.Kind(), "intel-xeon-platinum-8481c-hardware-6.12.107+deb13-no-guards"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	other := m
	other.CPUs, other.MemoryMiB, other.Fault, other.Kernel = 64, 1<<20, 500, "6.12.107+deb13-cloud-amd64"
	if other.Kind() != m.Kind() {
		t.Errorf("%q and %q", other.Kind(), m.Kind())
	}
	other.Guards, other.PageTables = []string{"splice", "options"}, ""
	if got, want := other.Title(),
		"Intel Xeon Platinum 8481C, unknown page tables, Linux 6.12.107+deb13, guards: splice, options"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
