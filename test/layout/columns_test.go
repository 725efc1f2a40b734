// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

const maxColumns = 110

// tooWide returns whether a line of Go has too many columns, where a tab is one. Directives of the compiler
// and raw strings, such as the tags of fields, cannot be broken.
func tooWide(line string) bool {
	before, _, raw := strings.Cut(line, "`")
	if raw && utf8.RuneCountInString(before) < maxColumns || strings.HasPrefix(line, "//go:") {
		return false
	}
	return utf8.RuneCountInString(line) > maxColumns
}

func TestColumns(t *testing.T) {
	seen := 0
	sources(t, func(path, content string) {
		rel, err := filepath.Rel(root(t), path)
		if err != nil {
			t.Fatal(err)
		}
		rel = filepath.ToSlash(rel)
		product := strings.HasPrefix(rel, "pkg/") || strings.HasPrefix(rel, "plugin/")
		if !product || filepath.Ext(rel) != ".go" || strings.HasSuffix(rel, "_test.go") {
			return
		}
		for i, line := range strings.Split(content, "\n") {
			seen++
			if tooWide(line) {
				t.Errorf("%s:%d has %d columns, more than %d", rel, i+1, utf8.RuneCountInString(line), maxColumns)
			}
		}
	})
	if seen < 10000 {
		t.Errorf("only %d lines were looked at", seen)
	}
}

func TestWideLinesAreFound(t *testing.T) {
	for line, want := range map[string]bool{
		strings.Repeat("x", maxColumns):                           false,
		strings.Repeat("x", maxColumns+1):                         true,
		strings.Repeat("\u00e9", maxColumns):                      false,
		"//go:generate " + strings.Repeat("x", maxColumns):        false,
		"Field string `json:\"" + strings.Repeat("x", maxColumns): false,
		strings.Repeat("x", maxColumns) + " // `x`":               true,
	} {
		if got := tooWide(line); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}
