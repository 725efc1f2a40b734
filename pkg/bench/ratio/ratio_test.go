// SPDX-License-Identifier: Apache-2.0

package ratio

import (
	"slices"
	"testing"
)

func TestRatioAboveOneIsBetterForRatesAndTimes(t *testing.T) {
	base, other := []float64{10, 20, 0, 10}, []float64{20, 40, 5}
	if got := Rounds(base, other, false); !slices.Equal(got, []float64{2, 2}) {
		t.Errorf("rates: %v", got)
	}
	if got := Rounds(base, other, true); !slices.Equal(got, []float64{0.5, 0.5}) {
		t.Errorf("times: %v", got)
	}
}

func TestOutlierWidensTheIntervalAndKeepsTheValue(t *testing.T) {
	r, ok := Of([]float64{1.1, 1.1, 1.1, 1.1, 9})
	if !ok || r.Value != 1.1 || r.Low != 1.1 || r.High <= 1.1 {
		t.Errorf("%+v, %v", r, ok)
	}
	if again, _ := Of([]float64{1.1, 1.1, 1.1, 1.1, 9}); again != r {
		t.Errorf("the same rounds gave %+v and %+v", r, again)
	}
	if _, ok := Of(nil); ok {
		t.Error("a ratio of nothing")
	}
}
