// SPDX-License-Identifier: Apache-2.0

package cells

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func TestNumbersAreFoundInNames(t *testing.T) {
	for name, want := range map[string]float64{"64 B": 64, "16KiB": 16384,
		"writes of 1 MiB, slow reader": 1 << 20, "4 Bytes": 0, "all": 0} {
		if got, _, _ := Size(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]float64{"100k flows": 1e5, "1,000 flows": 1000, "1M": 1e6, "1 flow": 1,
		"none": 0} {
		if got, _, _ := Number(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	if _, rest, _ := Size("64 KiB, slow reader"); rest != "slow reader" {
		t.Errorf("the rest is %q", rest)
	}
}

func TestDifferenceIsClearOnlyIfTheIntervalExcludesOne(t *testing.T) {
	for want, r := range map[Judgement]result.Ratio{
		BetterThan: {Value: 1.1, Low: 1.01, High: 1.2}, WorseThan: {Value: 0.9, Low: 0.8, High: 0.99},
		Unclear: {Value: 1.1, Low: 0.99, High: 1.2},
	} {
		if got := judge(r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}

func TestTooFewRoundsHaveNoVerdict(t *testing.T) {
	c := result.Cell{Better: result.Lower, Samples: map[result.Variant][]float64{result.Plain: {20, 20, 20, 20},
		result.Sockmap: {10, 10, 10, 10}}}
	if got, ok := Compare(c, result.Sockmap); !ok || got.Says != TooFew || got.Value != 2 {
		t.Errorf("%+v, %v", got, ok)
	}
	for v, samples := range c.Samples {
		c.Samples[v] = append(samples, samples[0])
	}
	if got, ok := Compare(c, result.Sockmap); !ok || got.Says != BetterThan {
		t.Errorf("%+v, %v", got, ok)
	}
	if got, ok := Compare(c, result.Plain); ok {
		t.Errorf("the base compared with itself: %+v", got)
	}
}

func TestARatioBelowItsGoalIsNotWrittenAsTheGoal(t *testing.T) {
	for want, v := range map[string][2]float64{"2.50": {2.5, 2.5}, "2.4960": {2.496, 2.5}, "2.40": {2.4, 2.5},
		"2.51": {2.511, 2.5}} {
		if got := Times(v[0], v[1]); got != want {
			t.Errorf("%v of %v: %s, want %s", v[0], v[1], got, want)
		}
	}
}

func TestGroupsAreOrderedAndComplete(t *testing.T) {
	cell := func(group string) result.Cell { return result.Cell{Group: group, Name: group} }
	var names []string
	for _, g := range Groups([]result.File{{Cells: []result.Cell{cell("mine"), cell("program")}},
		{Cells: []result.Cell{cell("rr")}}}) {
		names = append(names, g.Name)
	}
	if !slices.Equal(names, []string{"rr", "program", "mine"}) {
		t.Error(names)
	}
}

func TestResultsAreSortedByMachine(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "make bench") {
		t.Errorf("an empty directory: %v", err)
	}
	good := result.Cell{Group: "rr", Name: "64 B", Better: result.Lower}
	write := func(name, suite, cpu string, all ...result.Cell) {
		f := result.File{Suite: suite, Cells: all, Machine: result.Machine{CPU: cpu, Kernel: "6.18.1-x"}}
		if err := f.Write(filepath.Join(dir, name+".json")); err != nil {
			t.Fatal(err)
		}
	}
	other := result.Cell{Group: "rr", Name: "1 KiB", Better: result.Lower}
	write("b/scale", "scale full", "B", good)
	write("b/micro", "micro full", "B", other)
	write("a/micro", "micro quick", "A", other)
	machines, err := Load(dir)
	if err != nil || len(machines) != 2 || machines[0].CPU != "A" || len(machines[1].Files) != 2 ||
		machines[1].Files[0].Suite != "micro full" {
		t.Fatalf("%+v, %v", machines, err)
	}
	rows := Rows(machines)
	if len(rows) != 2 || rows[0].Key != "rr/1 KiB" || rows[0].Cells[0] == nil || rows[0].Cells[1] == nil ||
		rows[1].Cells[0] != nil {
		t.Errorf("%+v", rows)
	}
	for _, tt := range []struct {
		name, suite string
		cells       []result.Cell
		want        string
	}{
		{"b/more", "programs full", []result.Cell{good}, "twice"},
		{"b/more", "programs full", []result.Cell{{Group: "rr", Name: "x"}}, "better"},
		{"b/more", "magic", nil, "none of"},
	} {
		write(tt.name, tt.suite, "B", tt.cells...)
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "b/more.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "more.json") {
		t.Errorf("half a file: %v", err)
	}
}

func TestLimitsNameCellsThatAreThere(t *testing.T) {
	dir := t.TempDir()
	f := result.File{Suite: "micro full", Cells: []result.Cell{{Group: "rr", Name: "64 B",
		Better: result.Lower}}}
	if err := f.Write(filepath.Join(dir, "micro.json")); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{`{"rr/64 B": "why", "add/x": "y"}`: "",
		`{"rr/65 B": "why"}`: "not measured", `{`: "limits"} {
		if err := os.WriteFile(filepath.Join(dir, "limits.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		machines, err := Load(dir)
		switch {
		case want == "" && (err != nil || machines[0].Limits["rr/64 B"] != "why"):
			t.Errorf("%s: %+v, %v", text, machines, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestNewRunReplacesTheEarlierRunOfItsKind(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	keep := func(suite, version, kernel string) error {
		f := result.File{Suite: suite, Version: version, Machine: result.Machine{CPU: "C", Kernel: kernel}}
		if err := f.Write(filepath.Join(from, "micro.json")); err != nil {
			t.Fatal(err)
		}
		_, err := Keep(from, to)
		return err
	}
	for _, run := range [][3]string{{"micro quick", "1", "6.1.0"}, {"micro full", "2", "6.1.0"},
		{"micro full", "3", "6.1.0"}, {"micro full", "4", "6.2.0"}} {
		if err := keep(run[0], run[1], run[2]); err != nil {
			t.Fatal(err)
		}
	}
	if err := keep("micro quick", "5", "6.1.0"); err == nil || !strings.Contains(err.Error(), "quick") {
		t.Errorf("a quick run in the place of a full one: %v", err)
	}
	machines, err := Load(to)
	if err != nil || len(machines) != 2 || machines[0].Files[0].Version != "3" ||
		machines[1].Files[0].Version != "4" {
		t.Errorf("%+v, %v", machines, err)
	}
}

func TestWholeRunReplacesPartialRuns(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	keep := func(name, version string, names ...string) error {
		t.Helper()
		f := result.File{Suite: "micro full", Version: version, Machine: result.Machine{CPU: "C", Kernel: "6.1.0"}}
		for _, n := range names {
			f.Cells = append(f.Cells, result.Cell{Group: "rr", Name: n, Better: result.Lower})
		}
		path := filepath.Join(from, name+".json")
		if err := f.Write(path); err != nil {
			t.Fatal(err)
		}
		_, err := Keep(from, to)
		return errors.Join(err, os.Remove(path))
	}
	if err := errors.Join(keep("micro-a", "1", "a", "b"), keep("micro-b", "1", "c"),
		keep("micro", "2", "b", "c")); err != nil {
		t.Fatal(err)
	}
	if err := keep("micro", "3", "c"); err == nil || !strings.Contains(err.Error(), "lacks 1 cells") {
		t.Errorf("a part in the place of the whole: %v", err)
	}
	machines, err := Load(to)
	if err != nil || len(machines) != 1 {
		t.Fatalf("%+v, %v", machines, err)
	}
	var got []string
	for _, f := range machines[0].Files {
		for _, c := range f.Cells {
			got = append(got, f.Version+c.Name)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"1a", "2b", "2c"}) {
		t.Error(got)
	}
}
