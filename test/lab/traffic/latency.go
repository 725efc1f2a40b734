// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"math"
	"slices"
	"time"
)

// Latencies are the durations of single operations, in the order in which they
// were done.
type Latencies []time.Duration

// Percentile returns the smallest latency that is not below p percent of all (nearest rank), 0 if there are
// none.
func (l Latencies) Percentile(p float64) time.Duration {
	return percentile(slices.Sorted(slices.Values(l)), p)
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// A Summary has the statistics of Latencies that are printed. Its JSON is in nanoseconds.
type Summary struct {
	Count int           `json:"count"`
	Mean  time.Duration `json:"mean_ns"`
	Min   time.Duration `json:"min_ns"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Summary summarizes l.
func (l Latencies) Summary() Summary {
	if len(l) == 0 {
		return Summary{}
	}
	sorted := slices.Sorted(slices.Values(l))
	var total time.Duration
	for _, d := range sorted {
		total += d
	}
	return Summary{
		Count: len(sorted),
		Mean:  total / time.Duration(len(sorted)),
		Min:   sorted[0],
		P50:   percentile(sorted, 50),
		P90:   percentile(sorted, 90),
		P99:   percentile(sorted, 99),
		P999:  percentile(sorted, 99.9),
		Max:   sorted[len(sorted)-1],
	}
}
