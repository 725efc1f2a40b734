// SPDX-License-Identifier: Apache-2.0

// Package portrange joins ranges of TCP ports, which the configuration, conntrack helpers and the programs each have in a
// type of their own.
package portrange

import "slices"

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
