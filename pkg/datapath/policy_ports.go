// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
)

func narrowestPorts(policies []Policy) (include, exclude, left []PortRange) {
	allowed := everyPort()
	for _, p := range policies {
		allowed = intersection(allowed, p.allowed())
		include = both(include, portrange.Join(p.Include))
		exclude = append(exclude, p.Exclude...)
	}
	exclude = portrange.Join(exclude)
	switch {
	case len(allowed) == 0:
		return nil, everyPort(), nil // an empty include would be every port
	case len(include) <= MaxPortRanges && len(exclude) <= MaxPortRanges:
		return include, exclude, nil // as people wrote them
	}
	allowed, left = largest(allowed, 2*MaxPortRanges)
	include, exclude = asLists(allowed)
	return include, exclude, left
}

// both is the intersection of two lists of included ports, of which an empty one is every port.
func both(a, b []PortRange) []PortRange {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	return intersection(a, b)
}

// allowed lists the ports that the policy permits, in order and apart from each other.
func (p Policy) allowed() []PortRange {
	allowed := everyPort()
	if len(p.Include) > 0 {
		allowed = portrange.Join(p.Include)
	}
	return intersection(allowed, complement(portrange.Join(p.Exclude)))
}

// largest keeps at most n ranges, those with the most ports, in their order.
func largest(ranges []PortRange, n int) (kept, left []PortRange) {
	if len(ranges) <= n {
		return ranges, nil
	}
	bySize := slices.Clone(ranges)
	slices.SortStableFunc(bySize, func(a, b PortRange) int { return int(b.Last-b.First) - int(a.Last-a.First) })
	kept, left = bySize[:n], bySize[n:]
	slices.SortFunc(kept, byFirst)
	slices.SortFunc(left, byFirst)
	return kept, left
}

// asLists writes up to twice MaxPortRanges ranges as an include and an exclude list: where they are too many
// for the include list, the first ones become one range with the gaps between them excluded.
func asLists(ranges []PortRange) (include, exclude []PortRange) {
	gaps := max(0, len(ranges)-MaxPortRanges)
	for i := range gaps {
		exclude = append(exclude, PortRange{First: ranges[i].Last + 1, Last: ranges[i+1].First - 1})
	}
	include = append(include, PortRange{First: ranges[0].First, Last: ranges[gaps].Last})
	return append(include, ranges[gaps+1:]...), exclude
}

func everyPort() []PortRange { return []PortRange{{First: 0, Last: 65535}} }

func byFirst(a, b PortRange) int { return int(a.First) - int(b.First) }

// complement and intersection take lists as portrange.Join returns them.
func complement(ranges []PortRange) (out []PortRange) {
	next := 0
	for _, r := range ranges {
		if int(r.First) > next {
			out = append(out, PortRange{First: uint16(next), Last: r.First - 1})
		}
		next = int(r.Last) + 1
	}
	if next <= 65535 {
		out = append(out, PortRange{First: uint16(next), Last: 65535})
	}
	return out
}

func intersection(a, b []PortRange) (out []PortRange) {
	for _, x := range a {
		for _, y := range b {
			if first, last := max(x.First, y.First), min(x.Last, y.Last); first <= last {
				out = append(out, PortRange{First: first, Last: last})
			}
		}
	}
	return out
}
