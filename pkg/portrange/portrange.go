// SPDX-License-Identifier: Apache-2.0

// Package portrange joins, reads and writes ranges of TCP ports, which the configuration, conntrack helpers and the programs
// each have in a type of their own.
package portrange

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ports is a range, inclusive at both ends.
type ports struct{ First, Last uint16 }

// Join returns the same ports sorted, and makes one of ranges that overlap or adjoin. It leaves its argument as it is.
func Join[Range ~struct{ First, Last uint16 }](ranges []Range) (joined []Range) {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b Range) int { return int(ports(a).First) - int(ports(b).First) })
	for _, r := range ranges {
		next := ports(r)
		if n := len(joined); n > 0 {
			// As ints: 65535 + 1 is 0 in a uint16.
			if last := ports(joined[n-1]); int(next.First) <= int(last.Last)+1 {
				joined[n-1] = Range(ports{last.First, max(last.Last, next.Last)})
				continue
			}
		}
		joined = append(joined, r)
	}
	return joined
}

// Text is "80", or "8000-8999".
func Text[Range ~struct{ First, Last uint16 }](r Range) string {
	p := ports(r)
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// Parse reads what Text writes. ok is false for what is no such range, or has port 0.
func Parse[Range ~struct{ First, Last uint16 }](text string) (r Range, ok bool) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, err := strconv.ParseUint(first, 10, 16)
	if err != nil || low == 0 {
		return r, false
	}
	high, err := strconv.ParseUint(last, 10, 16)
	if err != nil || high < low {
		return r, false
	}
	return Range(ports{uint16(low), uint16(high)}), true
}
