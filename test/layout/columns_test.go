// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const maxColumns = 110

// longText is the length from which a string literal of a test may make its line wider: test data that is cut
// in two is harder to read.
const longText = 50

var literal = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// tooWide returns whether a line of Go has too many columns, where a tab is one. Directives of the compiler
// and raw strings, such as the tags of fields, cannot be broken.
func tooWide(line string, test bool) bool {
	if utf8.RuneCountInString(line) <= maxColumns || strings.HasPrefix(line, "//go:") {
		return false
	}
	before, _, raw := strings.Cut(line, "`")
	if raw && utf8.RuneCountInString(before) < maxColumns {
		return false
	}
	return !test || !slices.ContainsFunc(literal.FindAllString(line, -1), func(text string) bool {
		return utf8.RuneCountInString(text) > longText
	})
}

func TestColumns(t *testing.T) {
	seen := 0
	sources(t, func(path, content string) {
		rel, err := filepath.Rel(root(t), path)
		if err != nil {
			t.Fatal(err)
		}
		rel = filepath.ToSlash(rel)
		if filepath.Ext(rel) != ".go" || strings.HasSuffix(rel, "_bpfel.go") {
			return
		}
		test := strings.HasPrefix(rel, "test/") || strings.HasSuffix(rel, "_test.go")
		raw := false // this line begins inside a raw string
		for i, line := range strings.Split(content, "\n") {
			seen++
			inside := raw
			if !strings.HasPrefix(strings.TrimSpace(line), "//") {
				raw = raw != (strings.Count(line, "`")%2 == 1)
			}
			if !inside && tooWide(line, test) {
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
		strings.Repeat("x", maxColumns):      false,
		strings.Repeat("x", maxColumns+1):    true,
		strings.Repeat("\u00e9", maxColumns): false,
		`t.Error("` + strings.Repeat("x", longText) + `", ` + strings.Repeat("x", maxColumns):    false,
		`t.Error("` + strings.Repeat("x", longText-10) + `", ` + strings.Repeat("x", maxColumns): true,
		"//go:generate " + strings.Repeat("x", maxColumns):                                       false,
		"Field string `json:\"" + strings.Repeat("x", maxColumns):                                false,
		strings.Repeat("x", maxColumns) + " // `x`":                                              true,
	} {
		if got := tooWide(line, true); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
	if !tooWide(`errors.New("`+strings.Repeat("x", maxColumns)+`")`, false) {
		t.Error("a long literal makes lines of the product wider, too")
	}
}
