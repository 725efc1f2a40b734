// SPDX-License-Identifier: Apache-2.0

package result

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// Ratio is how many times better one variant is than another, with the interval that 95 % of the bootstrap's resamples
// lie in. Above 1 is better, whichever way the measure goes.
type Ratio struct{ Value, Low, High float64 }

const resamples = 2000

// Against compares v with the base of the cell, round by round, and takes the median. It reports false where no round has both.
//
// Both sides of a round had the same machine within a second or two. From round to round it changes, by a third on machines that are shared
// with others: what was measured then must not be set against what was measured now. So it is the ratios of rounds that are resampled.
func (c Cell) Against(v Variant) (Ratio, bool) {
	rounds := c.rounds(v)
	n := len(rounds)
	if n == 0 {
		return Ratio{}, false
	}
	random := rand.New(rand.NewPCG(1, uint64(n))) // the same samples give the same interval
	medians := make([]float64, 0, resamples)
	picked := make([]float64, n)
	for range resamples {
		for i := range n {
			picked[i] = rounds[random.IntN(n)]
		}
		medians = append(medians, Median(picked))
	}
	slices.Sort(medians)
	return Ratio{
		Value: Median(rounds),
		Low:   medians[resamples*25/1000],
		High:  medians[resamples*975/1000-1],
	}, true
}

// rounds are the ratios of v to the base in each. A round in which a side has nothing to show compares nothing.
func (c Cell) rounds(v Variant) (ratios []float64) {
	base, other := c.Samples[c.ComparedWith()], c.Samples[v]
	for i := range min(len(base), len(other)) {
		if base[i] > 0 && other[i] > 0 {
			ratios = append(ratios, c.ratio(base[i], other[i]))
		}
	}
	return ratios
}

// ComparedWith is the base of the cell.
func (c Cell) ComparedWith() Variant { return cmp.Or(c.Base, Plain) }

func (c Cell) ratio(base, other float64) float64 {
	if c.Better == Lower {
		return base / other
	}
	return other / base
}

// Median of values, 0 if there are none.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
