// SPDX-License-Identifier: Apache-2.0

// Package portrange is about ranges of ports: of the configuration, of conntrack helpers, of policies and of
// filters.
package portrange

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range is inclusive at both ends.
type Range struct{ First, Last uint16 }

// String is "80", or "8000-8999".
func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Has reports whether a port is in the range.
func (r Range) Has(port uint16) bool { return r.First <= port && port <= r.Last }

// Parse reads what String writes. ok is false for everything else, and for a range that begins with port 0.
func Parse(text string) (r Range, ok bool) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, err := strconv.ParseUint(first, 10, 16)
	if err != nil || low == 0 {
		return Range{}, false
	}
	high, err := strconv.ParseUint(last, 10, 16)
	if err != nil || high < low {
		return Range{}, false
	}
	return Range{uint16(low), uint16(high)}, true
}

// Join returns the same ports, sorted; ranges that overlap or adjoin become one. Its argument is left
// unchanged.
func Join(ranges []Range) (joined []Range) {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b Range) int { return int(a.First) - int(b.First) })
	for _, next := range ranges {
		// As ints: 65535 + 1 is 0 in a uint16.
		if n := len(joined); n > 0 && int(next.First) <= int(joined[n-1].Last)+1 {
			joined[n-1].Last = max(joined[n-1].Last, next.Last)
			continue
		}
		joined = append(joined, next)
	}
	return joined
}
