// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestHazardIsConfirmedByASecondProbe(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		answers []outcome
		errs    []error
		present bool
		err     error
		mustSay string
	}{
		"fine":            {answers: []outcome{fine("well")}, mustSay: "well"},
		"guarded":         {answers: []outcome{guarded("cured")}, mustSay: "cured"},
		"bad":             {answers: []outcome{bad("one"), bad("two")}, present: true, mustSay: "two"},
		"late at first":   {answers: []outcome{bad("late"), fine("in time")}, mustSay: "in time (at first: late)"},
		"fails":           {answers: []outcome{{}}, errs: []error{broken}, err: broken},
		"fails the next":  {answers: []outcome{bad("one"), {}}, errs: []error{nil, broken}, err: broken},
		"guarded at last": {answers: []outcome{bad("one"), guarded("cured")}, mustSay: "cured"},
	} {
		t.Run(name, func(t *testing.T) {
			var waits []time.Duration
			o, err := confirmed(func() (outcome, error) {
				i := len(waits)
				waits = append(waits, wait)
				var err error
				if i < len(c.errs) {
					err = c.errs[i]
				}
				return c.answers[i], err
			})
			if !errors.Is(err, c.err) || o.present != c.present || !strings.Contains(o.seen, c.mustSay) {
				t.Errorf("%+v, %v", o, err)
			}
			if len(waits) != len(c.answers) || len(waits) == 2 && waits[1] <= waits[0] || wait != firstWait {
				t.Errorf("it waited %v, and the next probe will %v", waits, wait)
			}
		})
	}
}
