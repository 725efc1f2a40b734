// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// cell whose rounds all gave the same result.
func cell(better result.Better, values map[result.Variant]float64) result.Cell {
	c := result.Cell{Group: "rr", Name: "a|b", Measure: "m", Unit: "ns", Better: better,
		Samples: map[result.Variant][]float64{}}
	for v, value := range values {
		for range 9 {
			c.Samples[v] = append(c.Samples[v], value)
		}
	}
	return c
}

func machine(cpu string, all ...result.Cell) cells.Machine {
	of := result.Machine{CPU: cpu, Kernel: "6.1.0"}
	return cells.Machine{Machine: of, Files: []result.File{{Suite: "micro full", Machine: of, Cells: all}}}
}

func section(all ...result.Cell) string {
	return Section([]cells.Machine{machine("C", all...)}, nil)
}

func TestGoalsAreReportedAsMetOrNotMet(t *testing.T) {
	twice := cell(result.Lower, map[result.Variant]float64{result.Plain: 20, result.Sockmap: 10})
	for _, tt := range []struct {
		goal, limit float64
		better      result.Better
		want        string
	}{
		{2, 0, result.Lower, "| plain | ≥ 2.00 | 2.00 (2.00 to 2.00): met |"},
		{2.5, 0, result.Lower, "| plain | ≥ 2.50 | 2.00 (2.00 to 2.00): **not met** |"},
		{0.4, 0, result.Higher, "| plain | ≥ 0.40 | 0.50 (0.50 to 0.50): met |"},
		{0, 10, result.Lower, "| – | ≤ 10.0 ns | 10.0 ns: met |"},
		{0, 9, result.Lower, "| – | ≤ 9.00 ns | 10.0 ns: **not met** |"},
		{0, 11, result.Higher, "| – | ≥ 11.0 ns | 10.0 ns: **not met** |"},
	} {
		c := twice
		c.Goal, c.Limit, c.Better = tt.goal, tt.limit, tt.better
		if got := section(c); !strings.Contains(got, tt.want) || !strings.Contains(got, "1 goals: ") {
			t.Errorf("%+v: no %q in\n%s", tt, tt.want, got)
		}
	}
	missing := cell(result.Lower, map[result.Variant]float64{result.Plain: 1})
	missing.Goal = 2
	if got := section(missing); !strings.Contains(got, "**not measured**") {
		t.Errorf("a goal without a measurement:\n%s", got)
	}
	if got := section(twice); strings.Contains(got, "### Goals") {
		t.Errorf("goals where there are none:\n%s", got)
	}
}

func TestGoalWithinTheIntervalIsMarked(t *testing.T) {
	c := cell(result.Lower, map[result.Variant]float64{result.Plain: 20, result.Sockmap: 10})
	c.Samples[result.Plain] = []float64{18, 19, 19, 20, 20, 20, 21, 21, 22}
	c.Goal = 1.99
	if got := section(c); !strings.Contains(got, ": met, within the noise |") {
		t.Errorf("no doubt in\n%s", got)
	}
}

func TestLossesAreNamedFirst(t *testing.T) {
	c := cell(result.Lower, map[result.Variant]float64{result.Plain: 9.97, result.Sockmap: 10})
	got := section(c)
	if !strings.HasPrefix(got,
		"Of 1 comparisons of sockmap with its base: 0 better, 0 no clear difference, 1 worse.\n\nWorse:\n\n- Request and response: a\\|b (m) against plain: 0.9970\n") {
		t.Errorf("the loss is not named:\n%s", got)
	}
	if !strings.Contains(got, "| 10.0 ns<br>0.9970 (0.9970 to 0.9970): worse |") {
		t.Errorf("the loss is not in the table:\n%s", got)
	}
}

func TestComparisonsMostlyOverTCPAreNamedFirst(t *testing.T) {
	c := cell(result.Higher, map[result.Variant]float64{result.Plain: 10, result.Sockmap: 10})
	c.Share = map[result.Variant]float64{result.Sockmap: 0.4}
	if got := section(c, c); strings.Count(got,
		"Mostly TCP, so that their ratios say little of redirecting:\n\n- Request and response: a\\|b\n") != 1 {
		t.Errorf("not named, or twice:\n%s", got)
	}
	c.Share[result.Sockmap] = 0.5
	if got := section(c); strings.Contains(got, "Mostly TCP") {
		t.Errorf("named although half was redirected:\n%s", got)
	}
}

func TestColumnsThatAreEmptyAreLeftOut(t *testing.T) {
	c := cell(result.Lower, map[result.Variant]float64{result.Plain: 2, result.Sockmap: 1})
	if got := table(cells.Group{Cells: []result.Cell{c}}); !strings.HasPrefix(got,
		"|  | measure | plain | sockmap | rounds |\n|---|---|---|---|---|\n| a\\|b | m | 2.00 ns |") {
		t.Error(got)
	}
	c.Share, c.Note, c.CPUs, c.Repeats = map[result.Variant]float64{result.Sockmap: 0.31}, "why *not*", "two",
		20000
	if got := table(cells.Group{Cells: []result.Cell{c}}); !strings.Contains(got,
		"| 31.0 %, mostly TCP | 9 of 20,000 | why \\*not\\* |") || !strings.Contains(got, "| two CPUs |") {
		t.Error(got)
	}
}

func TestQuickRunIsMarkedAsNotToBeQuoted(t *testing.T) {
	c := cell(result.Lower, map[result.Variant]float64{result.Plain: 2, result.Sockmap: 1})
	m := machine("C", c)
	m.Files[0].Suite = "micro quick"
	if got := Section([]cells.Machine{m}, nil); !strings.HasPrefix(got, "**") ||
		!strings.Contains(got, "not to be quoted") {
		t.Error(got)
	}
}

func TestMachinesAreColumnsOfOneTable(t *testing.T) {
	good := cell(result.Lower, map[result.Variant]float64{result.Plain: 20, result.Sockmap: 10})
	bad := cell(result.Lower, map[result.Variant]float64{result.Plain: 10, result.Sockmap: 20})
	good.Goal, bad.Goal = 1.5, 1.5
	a, b := machine("A", good), machine("B", bad)
	b.Limits = map[string]string{cells.Key(bad): "wake-ups"}
	got := Section([]cells.Machine{a, b}, nil)
	for _, want := range []string{
		"| sockmap | against | A, unknown page tables, Linux 6.1.0, guards: none | B, unknown",
		"| a\\|b (m) | plain | 2.00 (2.00 to 2.00): better | 0.50 (0.50 to 0.50): worse |",
		"| plain | ≥ 1.50 | 2.00 (2.00 to 2.00): met | 0.50 (0.50 to 0.50): **not met**. Limit: wake-ups |",
		"- A, unknown page tables, Linux 6.1.0, guards: none: 1 goals: 1 met, 0 not met.",
		"**B, unknown page tables, Linux 6.1.0, guards: none:** Of 1 comparisons of sockmap with its base: 0 better, 0 no clear difference, 1 worse.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestRangeHasTheLowestAndTheHighestRatio(t *testing.T) {
	one := func(sockmap float64) cells.Machine {
		c := cell(result.Lower, map[result.Variant]float64{result.Plain: 20, result.Sockmap: sockmap})
		c.Name, c.Measure, c.CPUs = "64 B", "p50", "same"
		return machine("C", c)
	}
	if got := Range([]cells.Machine{one(16), one(10), one(25)}); !strings.Contains(got, "3 machines") ||
		!strings.Contains(got, "| requests of 64 B | 0.80 (0.80 to 0.80) | 2.00 (2.00 to 2.00) |") {
		t.Error(got)
	}
	if got := Range([]cells.Machine{one(16)}); !strings.Contains(got, "one machine: C, unknown") {
		t.Error(got)
	}
}
