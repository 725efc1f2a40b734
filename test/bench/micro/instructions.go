// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"regexp"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/counting"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// brief is enough where the clock counts instructions: samples differ by a percent, not by a third. A stream
// needs longer: its buffers grow first, and the order of its ends varies.
var (
	briefStream = pace{rounds: 5, warm: 40 * time.Millisecond, time: 100 * time.Millisecond}
	brief       = pace{rounds: 5, warm: 15 * time.Millisecond, time: 40 * time.Millisecond}
)

// countedVariants on a node with sockmap. On a bare node there is only plain TCP, and Twin shows how much two
// equal variants differ. Guards run in each call on the whole node, so plain TCP costs more on a node with
// sockmap than on one without.
var (
	countedVariants = []result.Variant{result.Plain, result.Sockmap}
	bareVariants    = []result.Variant{result.Plain, result.Twin}
)

// works are the selected ones.
func (o options) works() []work {
	switch {
	case o.instructions:
		same = cpus{"same", 0, 0} // there is only one
		variants := countedVariants
		if o.bare {
			variants = bareVariants
		}
		return only(countedWorks(o.pace, o.match, variants), o.only)
	case o.check:
		return checkedWorks(o.pace, o.match)
	}
	return only(plan(o.pace, o.match), o.only)
}

// countedWorks are the works of the plan whose instructions are counted, each with one view: the instructions
// of an operation.
func countedWorks(p pace, match *regexp.Regexp, variants []result.Variant) (works []work) {
	for _, n := range []int{1, 64, 1 << 10, 16 << 10, 64 << 10} {
		works = append(works, counted(exchange(p, n, same), "request", n))
	}
	for _, n := range []int{64, 256, 1 << 10, 16 << 10, 64 << 10, 256 << 10} {
		works = append(works, counted(stream(briefStream, size(n), n, 0, 0, same), "write", n))
	}
	for _, w := range churn(p) {
		w.shares = []result.Variant{result.Sockmap}
		works = append(works, counted(w, "connection", 64))
	}
	for _, w := range offNode(p) {
		if w.name == "64 B to a host" {
			works = append(works, counted(w, "request", 64))
		}
	}
	for i := range works {
		works[i].variants = variants
	}
	return slices.DeleteFunc(works, func(w work) bool { return !match.MatchString(w.title()) })
}

// counted has one view, of operations that send so many bytes one way. It counts all work of the machine for
// the traffic, including its warm-up and the connection: if a stream stalls, it is unknown which part of its
// time was idle.
func counted(w work, each string, bytes int) work {
	w.views = []view{{
		measure: "instructions", unit: counting.Unit + each, better: result.Lower,
		value: func(o outcome) float64 { return counting.Each(o.work.Ran, float64(o.client.Sent)/float64(bytes)) },
	}, {
		measure: "idle", unit: "%", better: result.Lower,
		value: func(o outcome) float64 { return 100 * o.work.Share() },
	}}
	return w
}

// guards that run; none on a bare node.
func (w *world) guards() ([]string, error) {
	if w.bare {
		return nil, nil
	}
	return pods.Guards(w.node)
}
