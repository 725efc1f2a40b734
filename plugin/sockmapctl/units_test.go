// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"testing"
	"time"
)

func TestUnitsForPeople(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{humanBytes(0), "0 B"},
		{humanBytes(1023), "1023 B"},
		{humanBytes(1024), "1 KiB"},
		{humanBytes(1536), "1.5 KiB"},
		{humanBytes(4 << 20), "4 MiB"},
		{humanBytes(1<<20 - 1), "1 MiB"},
		{humanBytes(123 << 20), "123 MiB"},
		{humanBytes(1023 << 20), "1023 MiB"},
		{humanBytes(math.MaxUint64), "16 EiB"},
		{compactBytes(1536), "1.5KiB"},
		{humanCount(99_999), "99999"},
		{humanCount(100_000), "100k"},
		{humanCount(999_499), "999k"},
		{humanCount(999_500), "1M"},
		{humanCount(1_234_567), "1.2M"},
		{humanCount(math.MaxUint64), "18.4E"},
		{humanAge(-time.Second), "0s"},
		{humanAge(59 * time.Second), "59s"},
		{humanAge(192 * time.Second), "3m12s"},
		{humanAge(5*time.Hour + 2*time.Minute), "5h2m"},
		{humanAge(100 * time.Hour), "4d4h"},
		{humanShare(0, 0), "-"},
		{humanShare(0, 5), "0 %"},
		{humanShare(5, 5), "100 %"},
		{humanShare(1, 3), "33.3 %"},
		{humanShare(1, 1e9), "<0.1 %"},
		{humanShare(1e9-1, 1e9), ">99.9 %"},
		{humanNumber(1, "flow", "flows"), "1 flow"},
		{humanNumber(0, "flow", "flows"), "0 flows"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
