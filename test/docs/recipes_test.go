// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
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

// The recipe for a guard names each file that lists the guards, and each command that writes one of them.
func TestTheRecipeForAGuardNamesEveryListOfGuards(t *testing.T) {
	var names []string
	for _, m := range guardName.FindAllStringSubmatch(read(t, "pkg/hazard/guards.go"), -1) {
		names = append(names, m[1])
	}
	if len(names) < 5 {
		t.Fatalf("pkg/hazard/guards.go has only the guards %q", names)
	}
	recipe := recipes(t)["a-guard"]
	seen := 0
	for _, file := range listings(t, names) {
		seen++
		if !strings.Contains(recipe, path.Base(file)) {
			t.Errorf("the recipe for a guard does not name %s, which lists the guards", file)
		}
	}
	if seen < 5 {
		t.Errorf("only %d files list the guards", seen)
	}
	for _, pkg := range []string{"./pkg/cniconf", "./pkg/metrics", "./plugin/sockmapctl", "-update"} {
		if !strings.Contains(recipe, pkg) {
			t.Errorf("the recipe for a guard does not run go test %s, which writes such a list", pkg)
		}
	}
}

var guardName = regexp.MustCompile(`(?m)^\tGuard\w+ += "([a-z]+)"`)

// listings are the files that have all of these names: in one line, or as the first words of cells of a table.
func listings(t *testing.T, names []string) (found []string) {
	t.Helper()
	for _, top := range []string{"conf", "docs", "test/vm"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "results" || d.Name() == "adr") {
				return fs.SkipDir
			}
			if ext := filepath.Ext(name); d.IsDir() || ext == ".go" || ext == ".svg" {
				return nil
			}
			file, err := filepath.Rel(root, name)
			if text := read(t, file); err == nil && lists(text, names) {
				found = append(found, filepath.ToSlash(file))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

var lowerWord = regexp.MustCompile(`[a-z]+`)

func lists(text string, names []string) bool {
	cells := 0
	for line := range strings.Lines(text) {
		in := map[string]bool{}
		for _, word := range lowerWord.FindAllString(line, -1) {
			in[word] = true
		}
		if !slices.ContainsFunc(names, func(name string) bool { return !in[name] }) {
			return true
		}
	}
	for _, name := range names {
		if strings.Contains(text, "\n| `"+name+"` |") || strings.Contains(text, "\n| guard `"+name+"` |") {
			cells++
		}
	}
	return cells >= 2
}
