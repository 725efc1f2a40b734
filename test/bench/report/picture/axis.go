// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"fmt"
	"math"
	"strconv"

	"gonum.org/v1/plot"
)

// A wide range has a logarithmic scale, because otherwise small values would be on the axis.
const wide = 20

// values is the axis of the measured values: its range, its marks, and whether it is logarithmic.
func values(low, high float64) (from, to float64, marks []plot.Tick, powers bool) {
	if low > 0 && high/low > wide {
		from, to, marks = inPowers(low, high)
		return from, to, marks, true
	}
	step := niceStep(high / 6)
	to = step * math.Ceil(high*1.02/step)
	for i := 0; float64(i)*step <= to*1.0001; i++ {
		marks = append(marks, mark(float64(i)*step))
	}
	return 0, to, marks, false
}

// niceStep is the least of 1, 2, 5, 10, ... that is not below least.
func niceStep(least float64) float64 {
	if least <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= least*0.9999 {
			return factor * power
		}
	}
	return 10 * power
}

// inPowers has marks at 1, 2, 5, 10, ..., or at powers of 10 if those were too many.
func inPowers(low, high float64) (from, to float64, marks []plot.Tick) {
	from, to = low*0.8, high*1.25
	factors := []float64{1, 2, 5}
	if to/from > 1e4 {
		factors = factors[:1]
	}
	for power := math.Floor(math.Log10(from)); power <= math.Ceil(math.Log10(to)); power++ {
		for _, factor := range factors {
			if v := factor * math.Pow(10, power); v >= from && v <= to {
				marks = append(marks, mark(v))
			}
		}
	}
	return from, to, marks
}

func mark(v float64) plot.Tick {
	return plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 6, 64)}
}

// sizeLabel is a size in the largest unit that divides it.
func sizeLabel(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if v >= u.size && math.Mod(v, u.size) == 0 {
			return fmt.Sprintf("%.0f %s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f B", v)
}

// countLabel is a number with the letter for its thousands.
func countLabel(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + "M"
	case v >= 1e3:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
