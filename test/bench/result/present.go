// SPDX-License-Identifier: Apache-2.0

package result

import (
	"cmp"
	"slices"
)

// Present returns the variants that have samples in any of the cells, in the order of Variants. An unknown
// one comes last.
func Present(all []Cell) (present []Variant) {
	for _, c := range all {
		for v, samples := range c.Samples {
			if len(samples) > 0 && !slices.Contains(present, v) {
				present = append(present, v)
			}
		}
	}
	slices.SortFunc(present, func(a, b Variant) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
	})
	return present
}

func place(v Variant) int {
	if i := slices.Index(Variants, v); i >= 0 {
		return i
	}
	return len(Variants)
}
