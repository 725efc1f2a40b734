// SPDX-License-Identifier: Apache-2.0

package cells

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// Judgement is the meaning of a ratio.
type Judgement string

// The judgements. A gain or a loss is only called so if the interval shows it.
const (
	BetterThan Judgement = "better"
	WorseThan  Judgement = "worse"
	Unclear    Judgement = "no clear difference"
	TooFew     Judgement = "too few rounds to tell"
)

// fewest rounds whose interval allows a judgement.
const fewest = 5

// Compared is a ratio of a cell with its judgement.
type Compared struct {
	result.Ratio
	Says Judgement
}

// Compare reports false where there is nothing to compare.
func Compare(c result.Cell, v result.Variant) (Compared, bool) {
	if v == c.ComparedWith() {
		return Compared{}, false
	}
	r, ok := c.Against(v)
	if !ok {
		return Compared{}, false
	}
	if min(len(c.Samples[v]), len(c.Samples[c.ComparedWith()])) < fewest {
		return Compared{r, TooFew}, true
	}
	return Compared{r, judge(r)}, true
}

// judge considers the interval, not the value.
func judge(r result.Ratio) Judgement {
	switch {
	case r.Low > 1:
		return BetterThan
	case r.High < 1:
		return WorseThan
	}
	return Unclear
}

// Text is the ratio as text. A ratio that is worse is never written as 1.
func (c Compared) Text() string {
	if c.Says == WorseThan {
		return Times(c.Value, 1)
	}
	return Times(c.Value, 0)
}

// Times is a ratio as text, with more digits where two would make it equal to the limit.
func Times(ratio, limit float64) string {
	if text := fmt.Sprintf("%.2f", ratio); ratio >= limit || text != fmt.Sprintf("%.2f", limit) {
		return text
	}
	return fmt.Sprintf("%.4f", ratio)
}
