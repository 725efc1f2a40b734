// SPDX-License-Identifier: Apache-2.0

package known

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/suite"
)

// Explain sets effect and reason of the results that differ, if the table has them.
func Explain(r *suite.Report) {
	for i := range r.Cases {
		c := &r.Cases[i]
		if c.Verdict != suite.Differs {
			continue
		}
		if reason, ok := whyOf(c, r.Guards); ok {
			c.Effect, c.Reason = string(reason.Effect), reason.Text
			c.ReasonName, c.Refusal = reason.Name, reason.Refusal
		}
	}
}

// whyOf is the first reason that allows the differences of the case, with these guards running.
func whyOf(c *suite.Result, guards []string) (Reason, bool) {
	for _, name := range expected[c.Name] {
		reason, ok := reasonOf(name)
		if !ok {
			continue
		}
		if reason.Guard != "" && slices.Contains(guards, reason.Guard) {
			if strings.HasSuffix(c.Name, suite.AtOnce) {
				continue // a guard that sometimes learns too late learnt in time here
			}
			if reason, ok = reasonOf(reason.Then); !ok {
				continue
			}
		}
		if reason.Effect.allows(c.Hangs, c.Loses) {
			return reason, true
		}
	}
	return Reason{}, false
}

// Failures lists the errors of a report, a sentence for each case. It is empty if every case was run, and all
// differences are known.
func Failures(r *suite.Report) (failures []string) {
	if len(r.Cases) == 0 {
		return []string{"not one case was run"}
	}
	for i := range r.Cases {
		c := &r.Cases[i]
		if text := failure(c, r); text != "" {
			failures = append(failures, c.Name+": "+text)
		}
	}
	return failures
}

func failure(c *suite.Result, r *suite.Report) string {
	switch {
	case c.Verdict == suite.Broken:
		return "could not be run: " + c.Error
	case c.Verdict == suite.Unsteady:
		return fmt.Sprintf("is not even the same twice on plain TCP: %v", c.Differences)
	case r.Control && c.Verdict == suite.Differs:
		return fmt.Sprintf("differs on plain TCP alone: %v", c.Differences)
	// If hazards were not accepted, no case may do harm, even if it is in the table.
	case !r.Accepted && c.Loses:
		return fmt.Sprintf("loses data although no hazard was accepted: %v", c.Differences)
	case !r.Accepted && c.Hangs:
		return fmt.Sprintf("hangs although no hazard was accepted: %v", c.Differences)
	case c.Verdict == suite.Differs:
		return unexplained(c, r.Guards)
	case c.Unengaged && (c.Yields == "" || len(r.Guards) == 0):
		return "not one byte was redirected, so it shows nothing"
	}
	return ""
}

// unexplained is empty for a difference that is in the table.
func unexplained(c *suite.Result, guards []string) string {
	if _, ok := whyOf(c, guards); ok {
		return ""
	}
	names := expected[c.Name]
	if len(names) == 0 {
		return fmt.Sprintf("differs, and is not known to: %v", c.Differences)
	}
	if reason, _ := reasonOf(names[0]); slices.Contains(guards, reason.Guard) {
		return fmt.Sprintf("differs although the guard %s runs: %v", reason.Guard, c.Differences)
	}
	return fmt.Sprintf("is worse than known (%s): %v", names[0], c.Differences)
}

// Cases lists the cases of the table, for a check against the list of cases.
func Cases() (names []string) {
	for name := range expected {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
