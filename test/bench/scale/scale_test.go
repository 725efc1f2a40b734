// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func TestMemoryIsRead(t *testing.T) {
	m, err := parseMemory("MemAvailable: 10 kB\nSlab:  3 kB\nPercpu: 2 kB\nVmallocUsed:\t1 kB\nOther: x\n")
	if err != nil || m.sum() != 6*1024 || m.available != 10*1024 {
		t.Errorf("%+v, %v", m, err)
	}
	for _, text := range []string{"", "Slab:\n", "Slab: x kB\n"} {
		if _, err := parseMemory(text); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}

func TestLevelIsLimitedByMemoryAndFiles(t *testing.T) {
	l := level{flows: 100_000}
	for _, c := range []struct {
		memory, files, want int
		why                 string
	}{{200_000, 100_000, 100_000, ""}, {55_555, 90_000, 55_000, "memory"}, {90_000, 400, 1, "file-max"}} {
		got, why := l.within(c.memory, c.files)
		if got.flows != c.want || !strings.Contains(why, c.why) || (why == "") != (c.why == "") {
			t.Errorf("%+v: %d, %q", c, got.flows, why)
		}
	}
}

// rounds of two variants, so that every cell has samples.
func rounds() map[result.Variant][]measured {
	m := measured{none: latencies{10, 20}, among: latencies{11, 30}, rate: 5, memory: 4000, share: 1, joined: 1,
		list: 1, table: 2, scrape: 3}
	return map[result.Variant][]measured{result.Plain: {m, m}, result.Sockmap: {m, m}}
}

func TestCellsHaveUniqueNames(t *testing.T) {
	seen := map[string]bool{}
	cells := level{flows: 10_000, last: true}.cells(rounds(), "this machine is small")
	for _, c := range cells {
		key := strings.Join([]string{c.Name, c.Measure, string(c.Base)}, "|")
		if seen[key] || c.Better == "" || !strings.HasPrefix(c.Name, "10k flows, ") ||
			!strings.Contains(c.Note, "small") {
			t.Errorf("%s: %+v", key, c)
		}
		seen[key] = true
	}
	if !slices.ContainsFunc(cells, func(c result.Cell) bool { return c.Goal > 0 }) ||
		!slices.ContainsFunc(cells, func(c result.Cell) bool { return c.Limit > 0 }) {
		t.Error("no goals")
	}
}
