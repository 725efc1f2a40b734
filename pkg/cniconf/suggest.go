// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"fmt"
	"slices"
	"strings"
)

// warnUnknown warns when name is not known, and names the candidate that was probably meant.
func (c *Conf) warnUnknown(kind, prefix, name string, known, candidates []string) {
	if slices.Contains(known, name) {
		return
	}
	hint := ""
	if near := Nearest(name, candidates); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", prefix+near)
	}
	c.warn("unknown %s %s is ignored%s", kind, quoted(prefix+name), hint)
}

// Nearest returns the candidate that differs from name by the fewest edits, regardless of case, or "" when
// none is near enough to be what was meant.
func Nearest(name string, candidates []string) string {
	best, fewest := "", 3
	for _, candidate := range candidates {
		// A third of the letters: two edits turn any three-letter word into any other.
		limit := min(fewest-1, len(candidate)/3)
		if d := len(name) - len(candidate); d > limit || -d > limit {
			continue
		}
		if edits := distance(strings.ToLower(name), strings.ToLower(candidate)); edits <= limit {
			best, fewest = candidate, edits
		}
	}
	return best
}

// distance counts the single-byte insertions, deletions and substitutions that turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
