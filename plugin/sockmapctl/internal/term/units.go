// SPDX-License-Identifier: Apache-2.0

package term

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bytes has up to three significant digits: 999 B, 4 KiB, 12.3 MiB, 456 GiB.
func Bytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, unit := scale(n, 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
	return value + " " + unit
}

// CompactBytes is Bytes as one word, so that awk counts the columns of a table right.
func CompactBytes(n uint64) string { return strings.ReplaceAll(Bytes(n), " ", "") }

// Count is exact up to five digits: 12345, 123k, 1.2M.
func Count(n uint64) string {
	if n < 100_000 {
		return strconv.FormatUint(n, 10)
	}
	value, unit := scale(n, 1000, []string{"k", "M", "G", "T", "P", "E"})
	return value + unit
}

func scale(n uint64, base float64, units []string) (value, unit string) {
	v := float64(n) / base
	i := 0
	// 999.5 would be printed as 1000.
	for ; v >= base-0.5 && i < len(units)-1; i++ {
		v /= base
	}
	if v < 99.95 {
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0"), units[i]
	}
	return strconv.FormatFloat(v, 'f', 0, 64), units[i]
}

// Age has the two largest units: 45s, 3m12s, 5h2m, 12d4h.
func Age(d time.Duration) string {
	s := max(0, int64(d/time.Second))
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%dh", s/86400, s/3600%24)
}

// Share never rounds a part to 0 %, or an incomplete part to 100 %.
func Share(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	p := 100 * float64(part) / float64(whole)
	switch {
	case part == 0:
		return "0 %"
	case part == whole:
		return "100 %"
	case p < 0.1:
		return "<0.1 %"
	case p > 99.9:
		return ">99.9 %"
	}
	return strconv.FormatFloat(p, 'f', 1, 64) + " %"
}

// Number is a count with its noun in the singular or the plural.
func Number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func Seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// CompactRate is bytes in a second, as one word.
func CompactRate(perSecond float64) string { return CompactBytes(uint64(perSecond+0.5)) + "/s" }
