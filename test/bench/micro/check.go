// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// The check fails if any traffic is slower than plain TCP. It takes two minutes: less than one for all cells,
// and the rest to measure those that seem to be slower once more, with more rounds. A cell fails if the whole
// interval of the ratio is below the floor both times.
//
// Twin runs with each cell: if two plain pairs differ, there is no judgement. One cell has a variant whose
// server is slowed down by a loop, which must be found slower: a check that cannot fail shows nothing.

// checkPace has nine rounds, so the whole interval is below the floor only if at least eight rounds are.
var (
	checkPace = pace{rounds: 9, warm: 15 * time.Millisecond, time: 50 * time.Millisecond}
	again     = 15 // rounds when a cell is measured once more
)

// checkLimit bounds the check, on a slow machine.
const checkLimit = 8 * time.Minute

// slowedDown is Twin with a server that computes for slowedBy before each answer: a third of the time of a
// request of 64 B.
const (
	slowedDown result.Variant = "slowed"
	slowedBy                  = 8 * time.Microsecond
	slowedCell                = "rr/64 B"
)

// checkedWorks are the works of the plan that the check has, with the variants that it compares and only
// their first view.
func checkedWorks(p pace, match *regexp.Regexp) (works []work) {
	for _, w := range plan(p, match) {
		if !slices.Contains(checked, w.title()) {
			continue
		}
		w.variants = []result.Variant{result.Plain, result.Sockmap, result.Twin}
		if w.title() == slowedCell {
			w.variants = append(w.variants, slowedDown)
		}
		w.views = w.views[:1]
		works = append(works, w)
	}
	return works
}

// check measures all works, and those that seem to be slower once more.
func check(ctx context.Context, w *world, works []work, out, log io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkLimit,
		fmt.Errorf("the check is over its limit of %v", checkLimit))
	defer cancel()
	first, err := judged(ctx, w, works, checkPace.rounds, out, log)
	if err != nil {
		return err
	}
	doubtful := slices.DeleteFunc(slices.Clone(works), func(w work) bool { return !first[w.title()].again() })
	second := map[string]finding{}
	if len(doubtful) > 0 {
		fmt.Fprintln(out, "\nonce more:")
		if second, err = judged(ctx, w, doubtful, again, out, log); err != nil {
			return err
		}
	}
	if failed := conclude(first, second); len(failed) > 0 {
		return fmt.Errorf("traffic is slower than plain TCP, or could not be judged:\n  %s",
			strings.Join(failed, "\n  "))
	}
	return nil
}

// judged measures works, and prints a finding for each.
func judged(ctx context.Context, w *world, works []work, rounds int, out,
	log io.Writer) (map[string]finding, error) {
	cells, err := measureAll(ctx, w, works, limit{rounds: rounds, started: time.Now()}, log)
	if err != nil {
		return nil, err
	}
	if len(cells) != len(works) {
		return nil, errors.New("a cell for each work was expected")
	}
	found := map[string]finding{}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "cell\tsockmap\ttwin\tslowed\tredirected\tfloor\t")
	for i, c := range cells {
		title := works[i].title()
		found[title] = judge(title, c)
		share := "–"
		if s, ok := c.Share[result.Sockmap]; ok {
			share = fmt.Sprintf("%.0f %%", 100*s)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.2f\t%s %s\n", title, interval(c, result.Sockmap),
			interval(c, result.Twin), interval(c, slowedDown),
			share, floor(title), found[title], c.Note)
	}
	return found, t.Flush()
}

func interval(c result.Cell, v result.Variant) string {
	r, ok := c.Against(v)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", r.Value, r.Low, r.High)
}
