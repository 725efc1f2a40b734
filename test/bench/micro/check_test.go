// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func TestCheckedCellsAreInThePlan(t *testing.T) {
	works := checkedWorks(checkPace, regexp.MustCompile(""))
	var titles []string
	for _, w := range works {
		titles = append(titles, w.title())
		if len(w.views) != 1 || !slices.Contains(w.variants, result.Twin) {
			t.Errorf("%s: %d views of %v, want 1, and twin", w.title(), len(w.views), w.variants)
		}
		if slowed := slices.Contains(w.variants, slowedDown); slowed != (w.title() == slowedCell) {
			t.Errorf("%s: a way is slowed down? %v", w.title(), slowed)
		}
	}
	for _, title := range checked {
		if !slices.Contains(titles, title) {
			t.Errorf("%s is to be checked, and is not in the plan", title)
		}
	}
	for title, l := range known {
		if !slices.Contains(checked, title) {
			t.Errorf("%s is known to lose, and is not checked", title)
		}
		if l.floor <= 0 || l.floor >= leastRatio || l.why == "" {
			t.Errorf("%s: floor %v and reason %q", title, l.floor, l.why)
		}
	}
}

// nine rounds of ratios around these, by rates.
func cellWith(sockmap, twin, slowed float64) result.Cell {
	noise := []float64{1, 1.02, 0.98, 1.01, 0.99, 1.03, 0.97, 1, 1}
	c := result.Cell{Better: result.Higher, Samples: map[result.Variant][]float64{}}
	for _, n := range noise {
		c.Samples[result.Plain] = append(c.Samples[result.Plain], 1000)
		c.Samples[result.Sockmap] = append(c.Samples[result.Sockmap], 1000*sockmap*n)
		c.Samples[result.Twin] = append(c.Samples[result.Twin], 1000*twin*n)
		if slowed > 0 {
			c.Samples[slowedDown] = append(c.Samples[slowedDown], 1000*slowed*n)
		}
	}
	return c
}

func TestCellIsJudgedByItsWholeInterval(t *testing.T) {
	const loses = "stream/64 B" // known to
	for _, c := range []struct {
		name, title string
		cell        result.Cell
		want        finding
	}{
		{"as fast", "rr/1 KiB", cellWith(1, 1, 0), good},
		{"faster", "rr/1 KiB", cellWith(1.5, 1, 0), good},
		{"slower, within the noise", "rr/1 KiB", cellWith(0.945, 1, 0), good},
		{"slower", "rr/1 KiB", cellWith(0.9, 1, 0), slow},
		{"slower, and so is its twin", "rr/1 KiB", cellWith(0.9, 0.9, 0), void},
		{"faster, and so is its twin", "rr/1 KiB", cellWith(1.2, 1.2, 0), void},
		{"a known loser", loses, cellWith(floor(loses)+0.01, 1, 0), good},
		{"a known loser that is worse", loses, cellWith(floor(loses)-0.1, 1, 0), slow},
		{"a known loser that does not lose", loses, cellWith(1, 1, 0), gained},
		{"a server that is slowed down is seen", slowedCell, cellWith(1.2, 1, 0.7), good},
		{"it is not", slowedCell, cellWith(1.2, 1, 0.94), blunt},
		{"no traffic", "rr/1 KiB", result.Cell{}, missing},
	} {
		if got := judge(c.title, c.cell); got != c.want {
			r, _ := c.cell.Against(result.Sockmap)
			t.Errorf("%s: %s, want %s (%+v)", c.name, got, c.want, r)
		}
	}
	few := cellWith(0.5, 1, 0)
	for v := range few.Samples {
		few.Samples[v] = few.Samples[v][:fewest-1]
	}
	if got := judge("rr/1 KiB", few); got != missing {
		t.Errorf("%d rounds: %s", fewest-1, got)
	}
}

func TestSecondMeasurementDecides(t *testing.T) {
	all := func(f finding) map[string]finding {
		m := map[string]finding{}
		for _, title := range checked {
			m[title] = f
		}
		return m
	}
	with := func(m map[string]finding, title string, f finding) map[string]finding {
		m[title] = f
		return m
	}
	for _, c := range []struct {
		name          string
		first, second map[string]finding
		want          string // text of the error; empty: none
	}{
		{"all is well", all(good), nil, ""},
		{"slower once", with(all(good), "rr/1 KiB", slow), map[string]finding{"rr/1 KiB": good}, ""},
		{"slower twice", with(all(good), "rr/1 KiB", slow), map[string]finding{"rr/1 KiB": slow},
			"rr/1 KiB: SLOWER"},
		{"slower, then void", with(all(good), "rr/1 KiB", slow), map[string]finding{"rr/1 KiB": void}, ""},
		{"void, then slower", with(all(good), "rr/1 KiB", void), map[string]finding{"rr/1 KiB": slow},
			"rr/1 KiB: SLOWER"},
		{"no traffic twice", with(all(good), "rr/1 KiB", missing), map[string]finding{"rr/1 KiB": missing},
			"rr/1 KiB: NOT MEASURED"},
		{"blunt twice", with(all(good), slowedCell, blunt), map[string]finding{slowedCell: blunt}, "NOT SEEN"},
		{"a loser that gains", with(all(good), "stream/64 B", gained), nil, ""},
		{"all void", all(void), all(void), "too busy"},
	} {
		got := strings.Join(conclude(c.first, c.second), "; ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
