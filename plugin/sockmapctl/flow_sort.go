// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"maps"
	"slices"
)

const (
	sortAddress = "address"
	sortRate    = "rate"
)

// sorts are what flows can be sorted by: the most first, and nil is by owner and address.
var sorts = map[string]func(f *flowView) float64{
	sortAddress:  nil,
	"bytes":      func(f *flowView) float64 { return float64(f.RedirectedBytes + f.TCPBytes) },
	"redirected": func(f *flowView) float64 { return float64(f.RedirectedBytes) },
	"tcp":        func(f *flowView) float64 { return float64(f.TCPBytes) },
	"backlog":    func(f *flowView) float64 { return float64(f.BacklogBytes) },
	"age":        func(f *flowView) float64 { return f.AgeSeconds },
	sortRate:     func(f *flowView) float64 { return f.rate().bytes() },
}

func sortKeys() []string { return slices.Sorted(maps.Keys(sorts)) }

func (f *flowView) rate() rateView {
	if f.Rate == nil {
		return rateView{}
	}
	return *f.Rate
}

// compareFlows puts the flows of one container together, and leaves nothing to chance: two pods may have the same
// loopback addresses.
func compareFlows(a, b *flowView) int {
	return cmp.Or(
		cmp.Compare(a.labels[0], b.labels[0]), a.Local.Compare(b.Local), a.Remote.Compare(b.Remote),
		cmp.Compare(a.NetNSCookie, b.NetNSCookie), cmp.Compare(a.SocketCookie, b.SocketCookie),
	)
}

func sortFlows(flows []flowView, key string) {
	by := sorts[key]
	slices.SortFunc(flows, func(a, b flowView) int {
		if by != nil {
			if c := cmp.Compare(by(&b), by(&a)); c != 0 {
				return c
			}
		}
		return compareFlows(&a, &b)
	})
}

// sortPairs counts both ends, but for the age: they are of one age.
func sortPairs(pairs []pairView, key string) {
	by := sorts[key]
	sum := func(p *pairView) (n float64) {
		for _, f := range p.ends() {
			if key == "age" {
				n = max(n, by(f))
			} else {
				n += by(f)
			}
		}
		return n
	}
	slices.SortFunc(pairs, func(a, b pairView) int {
		if by != nil {
			if c := cmp.Compare(sum(&b), sum(&a)); c != 0 {
				return c
			}
		}
		return compareFlows(a.ends()[0], b.ends()[0])
	})
}
