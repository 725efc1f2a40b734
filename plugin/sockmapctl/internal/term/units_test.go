// SPDX-License-Identifier: Apache-2.0

package term

import (
	"math"
	"testing"
	"time"
)

func TestUnitsForPeople(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{Bytes(0), "0 B"},
		{Bytes(1023), "1023 B"},
		{Bytes(1024), "1 KiB"},
		{Bytes(1536), "1.5 KiB"},
		{Bytes(4 << 20), "4 MiB"},
		{Bytes(1<<20 - 1), "1 MiB"},
		{Bytes(123 << 20), "123 MiB"},
		{Bytes(1023 << 20), "1023 MiB"},
		{Bytes(math.MaxUint64), "16 EiB"},
		{CompactBytes(1536), "1.5KiB"},
		{Count(99_999), "99999"},
		{Count(100_000), "100k"},
		{Count(999_499), "999k"},
		{Count(999_500), "1M"},
		{Count(1_234_567), "1.2M"},
		{Count(math.MaxUint64), "18.4E"},
		{Age(-time.Second), "0s"},
		{Age(59 * time.Second), "59s"},
		{Age(192 * time.Second), "3m12s"},
		{Age(5*time.Hour + 2*time.Minute), "5h2m"},
		{Age(100 * time.Hour), "4d4h"},
		{Share(0, 0), "-"},
		{Share(0, 5), "0 %"},
		{Share(5, 5), "100 %"},
		{Share(1, 3), "33.3 %"},
		{Share(1, 1e9), "<0.1 %"},
		{Share(1e9-1, 1e9), ">99.9 %"},
		{Number(1, "flow", "flows"), "1 flow"},
		{Number(0, "flow", "flows"), "0 flows"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
