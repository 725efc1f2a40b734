// SPDX-License-Identifier: Apache-2.0

package micro

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

var (
	everyVariant = []result.Variant{result.Plain, result.Loopback, result.Unix, result.Sockmap, result.Classic,
		result.Kept}
	// Nothing stops a sender of the classic design before memory is full.
	boundedVariants = []result.Variant{result.Plain, result.Loopback, result.Unix, result.Sockmap, result.Kept}
	// Where nothing is redirected, a percent matters: these cells are compared with the difference between
	// two equal variants, and with the cost of any program.
	taxed = []result.Variant{result.Plain, result.Sockmap, result.Off, result.Twin}
)

// slowPause is the pause after each read of 64 KiB: the reader takes some 250 MB/s at most.
const slowPause = 200 * time.Microsecond

// plan returns all works, or those that match: group/name.
func plan(p pace, match *regexp.Regexp) (works []work) {
	all := [][]work{requests(p), streams(p), connections(p), churn(p), offNode(p), cpuTime(p), memory(p),
		verdictTime(p)}
	for _, group := range all {
		for _, w := range group {
			if match.MatchString(w.title()) {
				works = append(works, w)
			}
		}
	}
	return works
}

// only keeps these variants in works; none means all.
func only(works []work, variants []string) (left []work) {
	if len(variants) == 0 {
		return works
	}
	for _, w := range works {
		w.variants = slices.DeleteFunc(slices.Clone(w.variants), func(v result.Variant) bool {
			return !slices.Contains(variants, string(v))
		})
		if len(w.variants) > 0 {
			left = append(left, w)
		}
	}
	return left
}

func size(n int) string {
	if n >= 1024 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// talk measures a work's traffic between the ends of each variant.
func talk(o wire.Order, at cpus) func(*world, result.Variant) (outcome, error) {
	return func(w *world, v result.Variant) (outcome, error) { return w.slot(w.routes[v], v, o, at, nil) }
}

func requests(p pace) (works []work) {
	median := map[int]float64{64: 2.5, 256: 2.5, 1 << 10: 2.5, 16 << 10: 2, 64 << 10: 2}
	for _, n := range []int{1, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10} {
		w := exchange(p, n, same)
		w.views[0].goal = median[n]
		if n == 64 {
			w.views[1].goal = 2.2
		}
		if n >= 64 && n <= 1<<10 {
			v := latency("p50", result.NotSlower, p50)
			v.name, v.base, v.only = w.name+" against unix", result.Unix, []result.Variant{result.Unix, result.Sockmap}
			w.views = append(w.views, v)
		}
		works = append(works, w)
	}
	return append(works, exchange(p, 64, two), sips(p))
}

// sips are requests of which each byte is read by its own call.
func sips(p pace) work {
	return work{
		group: "rr", name: "4 KiB, read byte by byte", cpus: same, variants: boundedVariants,
		shares:  []result.Variant{result.Sockmap},
		measure: talk(wire.Order{Kind: wire.Requests, Size: 4 << 10, Take: 1, Warm: p.warm, Time: p.time}, same),
		views:   []view{latency("p50", result.NotSlower, p50)},
	}
}

func exchange(p pace, n int, at cpus) work {
	return work{
		group: "rr", name: size(n), cpus: at, variants: everyVariant,
		shares:  []result.Variant{result.Sockmap, result.Classic},
		measure: talk(wire.Order{Kind: wire.Requests, Size: n, Warm: p.warm, Time: p.time}, at),
		views:   []view{latency("p50", 0, p50), latency("p99", 0, p99), latency("p99.9", 0, p999)},
	}
}

// streamGoals are the goals by size of the writes, with both ends on one CPU. On two CPUs it is enough not to
// be slower.
var streamGoals = map[int]float64{64: 1, 256: 1.1, 1 << 10: 1.2, 16 << 10: 1.3, 64 << 10: 1.15,
	256 << 10: 1.15}

func streams(p pace) (works []work) {
	for _, at := range []cpus{same, two} {
		for _, n := range slices.Sorted(maps.Keys(streamGoals)) {
			goal := streamGoals[n]
			if at == two {
				goal = result.NotSlower
			}
			works = append(works, stream(p, size(n), n, 0, goal, at))
		}
		works = append(works, stream(p, "64 KiB, slow reader", 64<<10, slowPause, result.NotSlower, at))
	}
	return works
}

func stream(p pace, name string, n int, pause time.Duration, goal float64, at cpus) work {
	return work{
		group: "stream", name: name, cpus: at, variants: boundedVariants,
		shares:  []result.Variant{result.Sockmap},
		measure: talk(wire.Order{Kind: wire.Stream, Size: n, Pause: pause, Warm: p.warm, Time: p.time}, at),
		views:   []view{perSecond("throughput", "B/s", goal, readAt)},
	}
}

func connections(p pace) (works []work) {
	for _, n := range []int{1, 8, 64, 1000} {
		o := wire.Order{Kind: wire.Many, Size: 64, Conns: n, Warm: p.warm, Time: p.time}
		if n == 1000 { // each has to have its turns
			o.Time *= 3
		}
		works = append(works, work{
			group: "connections", name: fmt.Sprintf("%d connections of 64 B", n), cpus: same,
			variants: []result.Variant{result.Plain, result.Sockmap, result.Classic},
			shares:   []result.Variant{result.Sockmap, result.Classic},
			measure:  talk(o, same),
			views:    []view{perSecond("rate", "1/s", 0, rate), latency("p99", 0, p99)},
		})
	}
	return works
}

// churnWarm is long enough for some hundred connections: after 256 connections without a gain, sockmap keeps
// a destination on TCP.
const churnWarm = 150 * time.Millisecond

// churn has no variant kept, because such connections do not join, and no share, because hardly any bytes are
// redirected.
func churn(p pace) []work {
	v := perSecond("rate", "1/s", result.NotSlower, rate)
	v.note = "all but one for each 50 ms stay on TCP, as the 256 before them gained nothing"
	return []work{{
		group: "churn", name: "connect, 64 B each way, close", cpus: same,
		variants: []result.Variant{result.Plain, result.Sockmap, result.Off, result.Twin, result.Classic},
		measure: func(w *world, v result.Variant) (outcome, error) {
			r := w.routes[v]
			if !w.counting {
				r.pair = nil // counting is slow among so many closed sockets
			}
			return w.slot(r, v, wire.Order{Kind: wire.Churn, Size: 64, Warm: churnWarm, Time: p.time}, same, nil)
		},
		views: []view{v},
	}}
}

// offNode is traffic of which nothing can be redirected: the cost of being an endpoint.
func offNode(p pace) (works []work) {
	for _, w := range []struct {
		name  string
		order wire.Order
		view  view
	}{
		{"64 B to a host", wire.Order{Kind: wire.Requests, Size: 64}, latency("p50", 0.99, p50)},
		{"stream of 64 KiB to a host", wire.Order{Kind: wire.Stream, Size: 64 << 10},
			perSecond("throughput", "B/s", 0.99, readAt)},
		{"connect, 64 B each way, close, to a host", wire.Order{Kind: wire.Churn, Size: 64},
			perSecond("rate", "1/s", result.NotSlower, rate)},
	} {
		o := w.order
		o.Warm, o.Time = p.warm, p.time
		if o.Kind == wire.Churn {
			o.Warm = churnWarm
		}
		works = append(works, work{
			group: "offnode", name: w.name, cpus: same, variants: taxed,
			measure: func(w *world, v result.Variant) (outcome, error) {
				return w.slot(w.outward[v], v, o, same, nil)
			},
			views: []view{w.view},
		})
	}
	return works
}
