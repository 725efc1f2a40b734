// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"fmt"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// leastRatio is the lowest ratio to plain TCP of every cell that is not in known. The margin of a twentieth
// is for a machine that is shared with others.
const leastRatio = 0.95

// checked are the cells of the check, by their titles in the plan. Each has one measure, its first view.
var checked = []string{
	"rr/64 B", "rr/1 KiB", "rr/16 KiB", "rr/64 KiB", "rr/64 B, two CPUs",
	"stream/64 B", "stream/256 B", "stream/1 KiB", "stream/16 KiB", "stream/64 KiB", "stream/256 KiB",
	"stream/64 KiB, slow reader",
	"stream/64 B, two CPUs", "stream/256 B, two CPUs", "stream/1 KiB, two CPUs", "stream/16 KiB, two CPUs",
	"stream/64 KiB, two CPUs",
	"stream/256 KiB, two CPUs", "stream/64 KiB, slow reader, two CPUs",
	"connections/64 connections of 64 B",
	"churn/connect, 64 B each way, close",
	"offnode/64 B to a host", "offnode/stream of 64 KiB to a host",
	"offnode/connect, 64 B each way, close, to a host",
}

// loser is a cell that is known to be slower than plain TCP: the reason, and the lowest ratio on any machine.
type loser struct {
	floor float64
	why   string
}

// known losers. A line is removed when the check reports that its cell does not lose any more, also on
// hardware page tables, where streams on two CPUs lose most.
var known = map[string]loser{
	"stream/64 B": {0.85,
		"each write wakes the reader until it has left, where TCP puts many into one segment"},
	"stream/64 B, two CPUs":  {0.60, "TCP in the sockhash for the first 4096 messages of a connection"},
	"stream/256 B, two CPUs": {0.62, "TCP in the sockhash for the first 32 ms of a connection"},
	"stream/1 KiB, two CPUs": {0.85, "each message takes the reader's lock, and wakes it on the other CPU"},

	"stream/64 KiB, slow reader, two CPUs": {0.85, "TCP in the sockhash for the first 32 ms of a connection"},
}

// floor is the lowest ratio of a cell.
func floor(title string) float64 {
	if l, ok := known[title]; ok {
		return l.floor
	}
	return leastRatio
}

// finding is the result of the check for one cell.
type finding string

const (
	good    finding = "ok"
	slow    finding = "SLOWER"
	gained  finding = "does not lose any more" // a known loser
	void    finding = "void"                   // two plain pairs differ as much
	missing finding = "NOT MEASURED"           // traffic fails
	blunt   finding = "NOT SEEN"               // the server that was slowed down was not found slower
)

// fewest rounds that allow a judgement.
const fewest = 5

// judge compares the whole interval of sockmap's ratio with the floor. There is no judgement if two plain
// pairs differ by more than a twentieth, because the machine was busy with something else, or if a
// slowed-down server is not found slower, because the noise is too large.
func judge(title string, c result.Cell) finding {
	r, ok := c.Against(result.Sockmap)
	twin, okTwin := c.Against(result.Twin)
	slowed, okSlowed := c.Against(slowedDown)
	switch {
	case !ok || !okTwin || len(c.Samples[result.Sockmap]) < fewest:
		return missing
	case okSlowed && slowed.High >= leastRatio:
		return blunt
	case twin.High < leastRatio || twin.Low > 1/leastRatio:
		return void
	case r.High < floor(title):
		return slow
	case known[title].floor > 0 && r.Low >= leastRatio:
		return gained
	}
	return good
}

// again reports whether a cell must be measured once more before it is judged.
func (f finding) again() bool { return slices.Contains([]finding{slow, void, missing, blunt}, f) }

// conclude lists the failures of n cells: first are the findings of the first measurement, second those of
// the cells that were measured again.
func conclude(first, second map[string]finding) (failed []string) {
	voids := 0
	for _, title := range checked {
		found := first[title]
		if f, ok := second[title]; ok {
			found = f
		}
		switch found {
		case slow, missing, blunt:
			failed = append(failed, fmt.Sprintf("%s: %s", title, found))
		case void:
			voids++
		}
	}
	if most := len(first) / 4; voids > most {
		failed = append(failed,
			fmt.Sprintf("%d cells cannot be judged, more than %d: the machine is too busy, try again when it is not",
				voids, most))
	}
	return failed
}
