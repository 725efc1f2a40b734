// SPDX-License-Identifier: Apache-2.0

package add

import (
	"math"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// times are nanoseconds by variant, in the order of the rounds.
type times map[result.Variant][]float64

func (t times) note(v result.Variant, d time.Duration) { t[v] = append(t[v], float64(d)) }

// beyond returns each time minus the time of the chain alone in the same round.
func (t times) beyond() times {
	more := times{}
	for v, all := range t {
		if v == result.Plain {
			continue
		}
		for i := range min(len(all), len(t[result.Plain])) {
			more[v] = append(more[v], all[i]-t[result.Plain][i])
		}
	}
	return more
}

// at returns one percentile for each variant.
func (t times) at(p float64) map[result.Variant][]float64 {
	out := map[result.Variant][]float64{}
	for v, all := range t {
		out[v] = []float64{percentile(all, p)}
	}
	return out
}

// percentile returns the smallest value that is not below p percent of all (nearest rank), 0 if there are
// none.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func cell(name, measure string, samples map[result.Variant][]float64) result.Cell {
	return result.Cell{Group: Group, Name: name, Measure: measure, Unit: "ns", Better: result.Lower,
		Samples: samples}
}
