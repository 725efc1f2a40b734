// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"maps"
	"slices"
)

const (
	SortAddress = "address"
	SortRate    = "rate"
)

// Sorts are what flows can be sorted by: the most first, and nil is by owner and address.
var Sorts = map[string]func(f *Flow) float64{
	SortAddress:  nil,
	"bytes":      func(f *Flow) float64 { return float64(f.RedirectedBytes + f.TCPBytes) },
	"redirected": func(f *Flow) float64 { return float64(f.RedirectedBytes) },
	"tcp":        func(f *Flow) float64 { return float64(f.TCPBytes) },
	"backlog":    func(f *Flow) float64 { return float64(f.BacklogBytes) },
	"age":        func(f *Flow) float64 { return f.AgeSeconds },
	SortRate:     func(f *Flow) float64 { return f.PerSecond().Bytes() },
}

func SortKeys() []string { return slices.Sorted(maps.Keys(Sorts)) }

// Compare puts the flows of one container together, and leaves nothing to chance: two pods may have the same
// loopback addresses.
func Compare(a, b *Flow) int {
	return cmp.Or(
		cmp.Compare(a.Labels[0], b.Labels[0]), a.Local.Compare(b.Local), a.Remote.Compare(b.Remote),
		cmp.Compare(a.NetNSCookie, b.NetNSCookie), cmp.Compare(a.SocketCookie, b.SocketCookie),
	)
}

func SortFlows(flows []Flow, key string) {
	by := Sorts[key]
	slices.SortFunc(flows, func(a, b Flow) int {
		if by != nil {
			if c := cmp.Compare(by(&b), by(&a)); c != 0 {
				return c
			}
		}
		return Compare(&a, &b)
	})
}

// SortPairs counts both ends, but for the age: they are of one age.
func SortPairs(pairs []Pair, key string) {
	by := Sorts[key]
	sum := func(p *Pair) (n float64) {
		for _, f := range p.Ends() {
			if key == "age" {
				n = max(n, by(f))
			} else {
				n += by(f)
			}
		}
		return n
	}
	slices.SortFunc(pairs, func(a, b Pair) int {
		if by != nil {
			if c := cmp.Compare(sum(&b), sum(&a)); c != 0 {
				return c
			}
		}
		return Compare(a.Ends()[0], b.Ends()[0])
	})
}
