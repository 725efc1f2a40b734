// SPDX-License-Identifier: Apache-2.0

package table

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

func TestRatiosValuesAndGoalsAreShown(t *testing.T) {
	cells := []result.Cell{
		{
			Group: "rr", Name: "64 B", Measure: "p50", Unit: "ns", Better: result.Lower, Goal: 2.5,
			Samples: map[result.Variant][]float64{result.Plain: {20000}, result.Sockmap: {10000}},
			Share:   map[result.Variant]float64{result.Sockmap: 1},
		},
		{
			Group: "rr", Name: "64 B against unix", Measure: "p50", Unit: "ns", Better: result.Lower,
			Base: result.Unix, Goal: 0.5,
			Samples: map[result.Variant][]float64{result.Unix: {9000}, result.Sockmap: {10000}},
		},
		{
			Group: "verdict", Name: "beyond", Measure: "run time", Unit: "ns", Better: result.Lower,
			Base: result.Classic, Limit: 60,
			Samples: map[result.Variant][]float64{result.Sockmap: {50}}, Note: "a note",
		},
		{
			Group: "verdict", Name: "rate", Measure: "rate", Unit: "1/s", Better: result.Higher, Limit: 60,
			Samples: map[result.Variant][]float64{result.Sockmap: {50}}, Note: "a note",
		},
	}
	var out bytes.Buffer
	if err := Print(&out, cells); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"rr                      base            sockmap                     goal",
		"64 B               p50  20.0 µs         2.00 [2.00, 2.00] r 100 %  ≥ 2.50 MISSED",
		"64 B against unix  p50  9.00 µs (unix)  0.90 [0.90, 0.90]          ≥ 0.50",
		"50.0 ns  ≤ 60.0 ns\n", "50.0/s   ≥ 60.0/s MISSED", "  beyond: a note\n",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "),
			strings.Join(strings.Fields(want), " ")) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Count(out.String(), "a note") != 1 {
		t.Errorf("a note is printed twice:\n%s", out.String())
	}
}
