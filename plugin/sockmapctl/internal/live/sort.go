// SPDX-License-Identifier: Apache-2.0

package live

import "cmp"

const (
	SortAddress = "address"
	SortRate    = "rate"
)

// amounts are the numbers by which flows and pairs are sorted.
var amounts = map[string]func(f *Flow) float64{
	"bytes":      func(f *Flow) float64 { return float64(f.RedirectedBytes + f.TCPBytes) },
	"redirected": func(f *Flow) float64 { return float64(f.RedirectedBytes) },
	"tcp":        func(f *Flow) float64 { return float64(f.TCPBytes) },
	"backlog":    func(f *Flow) float64 { return float64(f.BacklogBytes) },
	"age":        func(f *Flow) float64 { return f.AgeSeconds },
	SortRate:     func(f *Flow) float64 { return f.PerSecond().Bytes() },
}

var (
	// FlowOrder sorts flows; SortAddress is the usual order.
	FlowOrder = flowOrder()
	// PairOrder sorts pairs by the same keys.
	PairOrder = pairOrder()
)

func flowOrder() Order[Flow] {
	keys := map[string]func(a, b *Flow) int{SortAddress: nil}
	for name, of := range amounts {
		keys[name] = Most(of)
	}
	return Order[Flow]{Compare, keys}
}

// pairOrder adds up both ends, except for the age, which is the same for both.
func pairOrder() Order[Pair] {
	keys := map[string]func(a, b *Pair) int{SortAddress: nil}
	for name, of := range amounts {
		keys[name] = Most(func(p *Pair) (n float64) {
			for _, f := range p.Ends() {
				if name == "age" {
					n = max(n, of(f))
				} else {
					n += of(f)
				}
			}
			return n
		})
	}
	return Order[Pair]{func(a, b *Pair) int { return Compare(a.Ends()[0], b.Ends()[0]) }, keys}
}

// Compare puts the flows of one container together. Addresses alone are not enough, because two pods may have
// the same loopback addresses.
func Compare(a, b *Flow) int {
	return cmp.Or(
		cmp.Compare(a.Labels[0], b.Labels[0]), a.Local.Compare(b.Local), a.Remote.Compare(b.Remote),
		cmp.Compare(a.NetNSCookie, b.NetNSCookie), cmp.Compare(a.SocketCookie, b.SocketCookie),
	)
}
