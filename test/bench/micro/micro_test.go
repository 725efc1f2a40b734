// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func TestCellsHaveUniqueKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range plan(full, regexp.MustCompile("")) {
		for _, v := range w.views {
			c := w.cell(v)
			key := strings.Join([]string{c.Group, c.Name, c.Measure, c.CPUs, string(c.ComparedWith())}, ", ")
			if seen[key] {
				t.Errorf("two cells %s", key)
			}
			seen[key] = true
			if c.Unit == "" || c.Better == "" || (v.value == nil) == (v.derive == nil) {
				t.Errorf("%s is not complete: %+v", key, c)
			}
		}
	}
}

func TestEveryVariantFollowsEveryOther(t *testing.T) {
	for n := 2; n <= len(everyVariant); n++ {
		variants := everyVariant[:n]
		after := map[[2]result.Variant]bool{}
		for round := range full.rounds {
			o := order(variants, round)
			if got := slices.Sorted(slices.Values(o)); !slices.Equal(got, slices.Sorted(slices.Values(variants))) {
				t.Fatalf("round %d: %v", round, o)
			}
			for i := 1; i < n; i++ {
				after[[2]result.Variant{o[i-1], o[i]}] = true
			}
		}
		if len(after) != n*(n-1) {
			t.Errorf("%d variants: only %d pairs: %v", n, len(after), after)
		}
	}
}

func TestFailedRoundCountsForNoVariant(t *testing.T) {
	fail := false
	w := work{
		group: "rr", name: "x", variants: []result.Variant{result.Plain, result.Sockmap},
		shares: []result.Variant{result.Sockmap},
		measure: func(_ *world, v result.Variant) (outcome, error) {
			if fail && v == result.Sockmap {
				return outcome{}, errors.New("no luck")
			}
			return outcome{client: wire.Answer{P50: 10, Count: 7}, sent: 10, redirected: 5}, nil
		},
		views: []view{latency("p50", 0, p50)},
	}
	p := begin([]work{w})[0]
	for round := range 3 {
		fail = round == 1
		if err := p.round(nil, round); err != nil {
			t.Fatal(err)
		}
	}
	c := p.finish()[0]
	if len(c.Samples[result.Plain]) != 2 || len(c.Samples[result.Sockmap]) != 2 ||
		c.Share[result.Sockmap] != 0.5 || c.Repeats != 7 {
		t.Errorf("%+v", c)
	}
	if c.Note != "round 2, sockmap: no luck" {
		t.Errorf("note %q", c.Note)
	}
}

func TestMemoryIsRead(t *testing.T) {
	got, err := memoryIn("MemTotal:  100 kB\nSlab:   20 kB\nSReclaimable: 3 kB\nPercpu:  4 kB\n")
	if err != nil || got != 24<<10 {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := memoryIn("Slab: 20 kB\n"); err == nil {
		t.Error("a kernel without Percpu is not noticed")
	}
}

func TestFlags(t *testing.T) {
	o, err := parseFlags([]string{"-quick", "-rounds", "3", "-run", "^rr/"})
	if err != nil || o.rounds != 3 || o.budget != 0 || o.time != quick.time || !o.match.MatchString("rr/1 B") {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{"-rounds", "-1"}, {"more"}, {"-run", "("}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	if err := run(t.Context(), options{match: regexp.MustCompile("^nothing$")}, io.Discard,
		io.Discard); err == nil {
		t.Error("a run of nothing is taken")
	}
}
