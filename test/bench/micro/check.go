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

// The check makes sure that no traffic is slower than plain TCP, in two minutes: less than one for all cells, and for those that seem
// to be slower once more, with more rounds. It fails where the whole interval of the ratio lies below the floor both times.
//
// Twin runs beside each cell: where two plain pairs are apart, nothing is judged. And one cell has a way whose server is slowed
// down by a loop, which has to be found slower: what could not fail shows nothing.

// checkPace leaves the interval of nine rounds: at least eight of them have to be below the floor for the whole of it to be.
var (
	checkPace = pace{rounds: 9, warm: 15 * time.Millisecond, time: 50 * time.Millisecond}
	again     = 15 // rounds of what is measured once more
)

// checkLimit is for all of it, on a machine that is slow.
const checkLimit = 8 * time.Minute

// slowedDown is Twin with a server that computes for slowedBy before each answer: a third of what a request of 64 B takes.
const (
	slowedDown result.Variant = "slowed"
	slowedBy                  = 8 * time.Microsecond
	slowedCell                = "rr/64 B"
)

// checkedWorks are those of the plan that the check has, with the ways that it compares and the first of their views.
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

// check measures works, and once more those that need it.
func check(ctx context.Context, w *world, works []work, out, log io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkLimit, fmt.Errorf("the check is over its limit of %v", checkLimit))
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
		return fmt.Errorf("traffic is slower than plain TCP, or cannot be told from it:\n  %s", strings.Join(failed, "\n  "))
	}
	return nil
}

// judged measures works, and says and shows what is to be thought of each.
func judged(ctx context.Context, w *world, works []work, rounds int, out, log io.Writer) (map[string]finding, error) {
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
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.2f\t%s %s\n", title, interval(c, result.Sockmap), interval(c, result.Twin), interval(c, slowedDown),
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
