// SPDX-License-Identifier: Apache-2.0

package result

import (
	"fmt"
	"math"
	"strings"
)

type scale struct {
	least float64
	name  string
}

var (
	times = []scale{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}, {1, "ns"}}
	sizes = []scale{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}, {1, "B"}}
)

// Show formats a value of a cell's unit for people.
func Show(value float64, unit string) string {
	first, per, _ := strings.Cut(unit, "/")
	switch {
	case unit == "1/s":
		return grouped(value) + "/s"
	case first == "ns" && per != "":
		return scaled(value, times) + " per " + per
	case first == "ns":
		return scaled(value, times)
	case first == "B" && per == "s":
		return scaled(value, sizes) + "/s"
	case first == "B" && per != "":
		return scaled(value, sizes) + " per " + per
	case first == "B":
		return scaled(value, sizes)
	}
	return strings.TrimSpace(three(value) + " " + unit)
}

func scaled(value float64, scales []scale) string {
	for _, s := range scales {
		// A value that would be rounded up to the next unit is shown in that unit.
		if math.Abs(value) >= s.least*0.9995 {
			return three(value/s.least) + " " + s.name
		}
	}
	return three(value) + " " + scales[len(scales)-1].name
}

// three significant digits, but all those before the decimal point.
func three(value float64) string {
	switch size := math.Abs(value); {
	case size == 0:
		return "0"
	case size < 0.001:
		return fmt.Sprintf("%.2g", value)
	case size < 9.995:
		return fmt.Sprintf("%.2f", value)
	case size < 99.95:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.0f", value)
}

// grouped separates thousands.
func grouped(value float64) string {
	text := three(value)
	whole, fraction, _ := strings.Cut(text, ".")
	var b strings.Builder
	for i, r := range whole {
		if left := len(whole) - i; i > 0 && left%3 == 0 && whole[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	if fraction != "" {
		b.WriteString("." + fraction)
	}
	return b.String()
}

// Count writes a whole number with thousands separated.
func Count(n int) string { return grouped(float64(n)) }
