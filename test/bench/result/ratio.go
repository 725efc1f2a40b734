// SPDX-License-Identifier: Apache-2.0

package result

import (
	"cmp"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/ratio"
)

// Ratio is how many times better one variant is than another. Above 1 is better.
type Ratio = ratio.Ratio

// NotSlower is the goal of traffic that gains nothing, for example because nothing is redirected: as good as
// plain TCP, within the difference between two equal variants.
const NotSlower = 0.98

// Against compares v with the base of the cell, round by round, and returns the median. It returns false if
// no round has both.
func (c Cell) Against(v Variant) (Ratio, bool) { return ratio.Of(c.rounds(v)) }

// rounds are the ratios of v to the base, by round. Rounds in which one of them has no sample are left out.
func (c Cell) rounds(v Variant) []float64 {
	return ratio.Rounds(c.Samples[c.ComparedWith()], c.Samples[v], c.Better == Lower)
}

// ComparedWith is the base of the cell.
func (c Cell) ComparedWith() Variant { return cmp.Or(c.Base, Plain) }

// Median of values, 0 if there are none.
func Median(values []float64) float64 { return ratio.Median(values) }
