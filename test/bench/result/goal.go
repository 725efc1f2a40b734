// SPDX-License-Identifier: Apache-2.0

package result

import "fmt"

// MeetsGoal reports whether the ratio of Sockmap reaches the goal. The second result is false if there is no
// goal, or nothing to compare.
func (c Cell) MeetsGoal() (met, ok bool) {
	rounds := c.rounds(Sockmap)
	if c.Goal == 0 || len(rounds) == 0 {
		return false, false
	}
	return Median(rounds) >= c.Goal, true
}

// MeetsLimit reports whether the median of Sockmap keeps within the limit. The second result is false if
// there is no limit, or nothing measured.
func (c Cell) MeetsLimit() (met, ok bool) {
	samples := c.Samples[Sockmap]
	if c.Limit == 0 || len(samples) == 0 {
		return false, false
	}
	if c.Better == Higher {
		return Median(samples) >= c.Limit, true
	}
	return Median(samples) <= c.Limit, true
}

// ShowGoal and ShowLimit write the goal and the limit.
func (c Cell) ShowGoal() string { return fmt.Sprintf("≥ %.2f", c.Goal) }

// ShowLimit is for the value itself, at most or at least.
func (c Cell) ShowLimit() string {
	if c.Better == Higher {
		return "≥ " + Show(c.Limit, c.Unit)
	}
	return "≤ " + Show(c.Limit, c.Unit)
}
