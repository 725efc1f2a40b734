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

// Against compares v with the base of the cell. It reports false where a side has no samples.
//
// What is resampled are rounds: both sides of a round had the same machine at the same time, so they stay together.
func (c Cell) Against(v Variant) (Ratio, bool) {
	base, other := c.Samples[c.ComparedWith()], c.Samples[v]
	n := min(len(base), len(other))
	if n == 0 || Median(base) == 0 || Median(other) == 0 {
		return Ratio{}, false
	}
	base, other = base[:n], other[:n]
	random := rand.New(rand.NewPCG(1, uint64(n))) // the same samples give the same interval
	ratios := make([]float64, 0, resamples)
	a, b := make([]float64, n), make([]float64, n)
	for range resamples {
		for i := range n {
			pick := random.IntN(n)
			a[i], b[i] = base[pick], other[pick]
		}
		ratios = append(ratios, c.ratio(Median(a), Median(b)))
	}
	slices.Sort(ratios)
	return Ratio{
		Value: c.ratio(Median(base), Median(other)),
		Low:   ratios[resamples*25/1000],
		High:  ratios[resamples*975/1000-1],
	}, true
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
