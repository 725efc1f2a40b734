// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"regexp"
	"strings"
	"testing"
)

var recipeLink = regexp.MustCompile(`\(\.\./CONTRIBUTING\.md#([a-z-]+)\)`)

// recipes are the sections of CONTRIBUTING.md below Recipes, by anchor.
func recipes(t *testing.T) map[string]string {
	t.Helper()
	_, text, _ := strings.Cut(read(t, "CONTRIBUTING.md"), "\n## Recipes\n")
	text, _, _ = strings.Cut(text, "\n## ")
	all := map[string]string{}
	for _, section := range strings.Split(text, "\n### ")[1:] {
		head, body, _ := strings.Cut(section, "\n")
		all[anchor(head, map[string]int{})] = body
	}
	if len(all) < 8 {
		t.Fatalf("CONTRIBUTING.md has only the recipes %v", all)
	}
	return all
}

// A recipe exists once: the table of ARCHITECTURE.md leads to each, and says nothing else about it.
func TestEachRecipeExistsOnce(t *testing.T) {
	all := recipes(t)
	_, table, _ := strings.Cut(read(t, "docs/ARCHITECTURE.md"), "\n## Where to begin\n")
	linked := map[string]bool{}
	for row := range strings.Lines(table) {
		m := recipeLink.FindStringSubmatch(row)
		if m == nil || !strings.HasPrefix(row, "|") {
			continue
		}
		linked[m[1]] = true
		if _, rest, _ := strings.Cut(row, m[0]); all[m[1]] == "" || strings.Trim(rest, "| \n") != "" ||
			strings.Contains(row, "`") {
			t.Errorf("the row is more than a link to a recipe of CONTRIBUTING.md: %s", row)
		}
	}
	for name := range all {
		if !linked[name] {
			t.Errorf("the table \"where to begin\" of ARCHITECTURE.md has no row for the recipe %s", name)
		}
	}
}
