// SPDX-License-Identifier: Apache-2.0

// Package ratio compares two ways for every tool of this project: round by round, above 1 is better, with an
// interval.
//
// Both sides of a round are measured on the same machine within a second or two. Between rounds, a machine
// that is shared with others changes by up to a third, so values of different rounds must not be compared.
// Therefore the median is taken of the ratios of the rounds, and these are resampled.
package ratio

import (
	"math/rand/v2"
	"slices"
)

// Ratio is how many times better one way is than another, with the interval that 95 % of the bootstrap's
// resamples lie in. Above 1 is better, whichever way the measure goes.
type Ratio struct{ Value, Low, High float64 }

const resamples = 2000

// Rounds are the ratios of other to base in each round; lower means that less is better. A round in which a
// side has no value is skipped.
func Rounds(base, other []float64, lower bool) (ratios []float64) {
	for i := range min(len(base), len(other)) {
		switch {
		case base[i] <= 0 || other[i] <= 0:
		case lower:
			ratios = append(ratios, base[i]/other[i])
		default:
			ratios = append(ratios, other[i]/base[i])
		}
	}
	return ratios
}

// Of returns the ratio of these rounds. It reports false if there are none.
func Of(rounds []float64) (Ratio, bool) {
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

// Median of values, 0 if there are none.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
