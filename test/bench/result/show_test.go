// SPDX-License-Identifier: Apache-2.0

package result

import (
	"slices"
	"testing"
)

func TestValuesAreShownAsPeopleReadThem(t *testing.T) {
	for _, tt := range []struct {
		value float64
		unit  string
		want  string
	}{
		{23123, "ns", "23.1 µs"}, {999.9, "ns", "1.00 µs"}, {58.26, "ns", "58.3 ns"}, {2.5e9, "ns", "2.50 s"},
		{4800000, "ns", "4.80 ms"}, {12345, "ns/request", "12.3 µs per request"}, {0, "ns", "0 ns"},
		{900 << 20, "B/s", "900 MiB/s"}, {1.5 * (1 << 30), "B/s", "1.50 GiB/s"}, {2560, "B", "2.50 KiB"},
		{2560, "B/flow", "2.50 KiB per flow"},
		{45210, "1/s", "45,210/s"}, {1234567.8, "1/s", "1,234,568/s"}, {999, "1/s", "999/s"},
		{3.14159, "1/s", "3.14/s"},
		{7.5, "%", "7.50 %"}, {-1200, "ns", "-1.20 µs"}, {-123456, "1/s", "-123,456/s"},
	} {
		if got := Show(tt.value, tt.unit); got != tt.want {
			t.Errorf("%v %s: %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
}

func TestVariantsComeInOneOrderAndOnlyThoseMeasured(t *testing.T) {
	got := Present([]Cell{{Samples: map[Variant][]float64{"z": {1}, "y": {1}, Sockmap: {1}, Unix: {},
		Plain: {1}}}})
	if !slices.Equal(got, []Variant{Plain, Sockmap, "y", "z"}) {
		t.Error(got)
	}
}
