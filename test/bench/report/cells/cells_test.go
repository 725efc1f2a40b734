// SPDX-License-Identifier: Apache-2.0

package cells

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func TestNumbersAreFoundInNames(t *testing.T) {
	for name, want := range map[string]float64{"64 B": 64, "16KiB": 16384, "writes of 1 MiB, slow reader": 1 << 20, "4 Bytes": 0, "all": 0} {
		if got, _, _ := Size(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]float64{"100k flows": 1e5, "1,000 flows": 1000, "1M": 1e6, "1 flow": 1, "none": 0} {
		if got, _, _ := Number(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	if _, rest, _ := Size("64 KiB, slow reader"); rest != "slow reader" {
		t.Errorf("the rest is %q", rest)
	}
}

func TestOnlyWhatTheIntervalShowsIsCalledADifference(t *testing.T) {
	for want, r := range map[Judgement]result.Ratio{
		BetterThan: {Value: 1.1, Low: 1.01, High: 1.2}, WorseThan: {Value: 0.9, Low: 0.8, High: 0.99}, Unclear: {Value: 1.1, Low: 0.99, High: 1.2},
	} {
		if got := judge(r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}

func TestFewRoundsSayNothing(t *testing.T) {
	c := result.Cell{Better: result.Lower, Samples: map[result.Variant][]float64{result.Plain: {20, 20, 20, 20}, result.Sockmap: {10, 10, 10, 10}}}
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
	for want, v := range map[string][2]float64{"2.50": {2.5, 2.5}, "2.4960": {2.496, 2.5}, "2.40": {2.4, 2.5}, "2.51": {2.511, 2.5}} {
		if got := Times(v[0], v[1]); got != want {
			t.Errorf("%v of %v: %s, want %s", v[0], v[1], got, want)
		}
	}
}

func TestGroupsComeInOneOrderAndNothingIsLeftOut(t *testing.T) {
	cell := func(group string) result.Cell { return result.Cell{Group: group, Name: group} }
	var names []string
	for _, g := range Groups([]result.File{{Cells: []result.Cell{cell("mine"), cell("program")}}, {Cells: []result.Cell{cell("rr")}}}) {
		names = append(names, g.Name)
	}
	if !slices.Equal(names, []string{"rr", "program", "mine"}) {
		t.Error(names)
	}
}

func TestFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "make bench") {
		t.Errorf("an empty directory: %v", err)
	}
	good := result.Cell{Group: "rr", Name: "64 B", Better: result.Lower}
	write := func(name string, all ...result.Cell) {
		if err := (result.File{Suite: name, Cells: all}).Write(filepath.Join(dir, name+".json")); err != nil {
			t.Fatal(err)
		}
	}
	write("scale", good)
	write("micro", good)
	files, err := Load(dir)
	if err != nil || len(files) != 2 || files[0].Suite != "micro" {
		t.Errorf("%+v, %v", files, err)
	}
	write("programs", good, good)
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a cell that is there twice: %v", err)
	}
	write("programs", result.Cell{Group: "rr", Name: "x"})
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "better") {
		t.Errorf("a cell of which nobody knows what is good: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "programs.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "programs.json") {
		t.Errorf("half a file: %v", err)
	}
}
