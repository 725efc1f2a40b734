// SPDX-License-Identifier: Apache-2.0

package portrange

import (
	"slices"
	"testing"
)

func TestJoin(t *testing.T) {
	for _, tt := range []struct{ ranges, want []Range }{
		{nil, nil},
		{[]Range{{80, 80}, {22, 22}}, []Range{{22, 22}, {80, 80}}},
		{[]Range{{80, 90}, {85, 95}, {96, 96}}, []Range{{80, 96}}},
		{[]Range{{1, 100}, {5, 6}, {102, 102}}, []Range{{1, 100}, {102, 102}}},
		{[]Range{{65535, 65535}, {0, 0}}, []Range{{0, 0}, {65535, 65535}}},
		{[]Range{{0, 65535}, {0, 0}}, []Range{{0, 65535}}},
	} {
		before := slices.Clone(tt.ranges)
		if got := Join(tt.ranges); !slices.Equal(got, tt.want) {
			t.Errorf("%v became %v, want %v", tt.ranges, got, tt.want)
		}
		if !slices.Equal(tt.ranges, before) {
			t.Errorf("%v was changed to %v", before, tt.ranges)
		}
	}
}

func TestRangesAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Range{"80": {80, 80}, "1-65535": {1, 65535}, "8000-8010": {8000, 8010}} {
		if got, ok := Parse(text); !ok || got != want || got.String() != text {
			t.Errorf("%q: %v, %v, written %q", text, got, ok, got.String())
		}
	}
	for _, text := range []string{"", "0", "0-5", "9-8", "65536", "eighty", "1-2-3", "-", "80-", "-80", " 80"} {
		if got, ok := Parse(text); ok {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}
