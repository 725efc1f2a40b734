// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

func names(selected []selection) (all []string) {
	for _, s := range selected {
		for _, m := range s.measurements {
			all = append(all, m.String())
		}
	}
	return all
}

func TestSelection(t *testing.T) {
	for _, c := range []struct {
		quick   bool
		pattern string
		want    string
	}{
		{false, `^redis GET -c 50 \(`, "redis GET -c 50 (same), redis GET -c 50 (two)"},
		{true, `^redis GET -c 50 \(`, "redis GET -c 50 (same)"},
		{true, `two\)`,
			"redis GET -c 50 (two), nginx 32 keep-alive (two), pgbench -S -c 16 (two), memcached get 32 (two)"},
		{false, "grpc", "grpc unary 32 (same), grpc stream (same)"},
		{false, "nothing like that", ""},
	} {
		got := names(selectCells(programs(), options{quick: c.quick, run: regexp.MustCompile(c.pattern)}))
		if strings.Join(got, ", ") != c.want {
			t.Errorf("-run %s, quick %v: %v, want %s", c.pattern, c.quick, got, c.want)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range names(selectCells(programs(), options{run: regexp.MustCompile("")})) {
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
	}
	if len(seen) != 21 {
		t.Errorf("%d measurements, want 21", len(seen))
	}
}

func TestMeasurementHasACellForEachMeasure(t *testing.T) {
	m := &measurement{cell: cell{name: "x", goal: 2}, cpus: same, taken: map[result.Variant]*taken{
		result.Plain:   {rates: []float64{10, 11}, p99s: []float64{5, 6}, counts: []float64{100, 102}},
		result.Sockmap: {rates: []float64{20, 21}, p99s: []float64{4, 4}, sent: pods.Sent{Redirected: 99, TCP: 1}},
	}}
	cells := m.cells()
	if len(cells) != 2 || cells[0].Measure != "rate" || cells[0].Goal != 2 ||
		cells[0].Share[result.Sockmap] != 0.99 || cells[0].Repeats != 101 ||
		cells[1].Measure != "p99" || cells[1].Goal != 0 || cells[1].Better != result.Lower {
		t.Errorf("%+v", cells)
	}
	// A tool that does not report p99 has no such cell, and the goal is for one CPU.
	m.taken[result.Plain].p99s, m.cpus = nil, two
	if cells := m.cells(); len(cells) != 1 || cells[0].Goal != 0 {
		t.Errorf("%+v", cells)
	}
}

func TestInstructionsAreCounted(t *testing.T) {
	// 1000 requests in 20 ms, half of it idle.
	if got := (sample{rate: 50000, count: 1000}).instructions(10 * time.Millisecond); got != 10000 {
		t.Errorf("%v instructions of each request, want 10000", got)
	}
	m := &measurement{cell: cell{name: "x"}, cpus: same, taken: map[result.Variant]*taken{
		result.Plain:   {rates: []float64{10}, counts: []float64{7}, counted: []float64{200}},
		result.Sockmap: {rates: []float64{20}, counted: []float64{100}},
	}}
	cells := m.results(true)
	if len(cells) != 2 || cells[1].Measure != "idle" || cells[0].Better != result.Lower ||
		cells[0].Samples[result.Plain][0] != 200 || cells[0].Samples[result.Sockmap][0] != 100 {
		t.Errorf("%+v", cells)
	}
	got := names(options{instructions: true, run: regexp.MustCompile("")}.selected())
	if slices.ContainsFunc(got, func(name string) bool {
		return strings.Contains(name, "(two)") || strings.Contains(name, "pgbench")
	}) || len(got) != 9 {
		t.Errorf("instructions are counted for %q; want cells on one CPU, of programs in the guest", got)
	}
}
