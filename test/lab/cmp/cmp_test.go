// SPDX-License-Identifier: Apache-2.0

package cmp

import (
	"math"
	"net/netip"
	"strings"
	"testing"
)

type inner struct{ hidden []int }

type outer struct {
	Name string
	In   *inner
	Tags map[string]any
	Self *outer
}

func TestDiffOfEqualValuesIsEmpty(t *testing.T) {
	for _, v := range []any{nil, 1, "a\nb", []string{"a"}, outer{Name: "x", In: &inner{[]int{1}}},
		netip.MustParseAddr("::1")} {
		if diff := Diff(v, v); diff != "" {
			t.Errorf("%#v: %s", v, diff)
		}
	}
}

func TestDiffShowsTheLinesThatDiffer(t *testing.T) {
	for name, tt := range map[string]struct {
		want, got any
		diff      string
	}{
		"a string":        {"a", "b", "- \"a\"\n+ \"b\"\n"},
		"a line":          {"a\nb\nc", "a\nc", "  string, lines:\n    \"a\"\n-   \"b\"\n    \"c\"\n"},
		"types":           {int32(1), int64(1), "- int32 1\n+ int64 1\n"},
		"nil and empty":   {[]int(nil), []int{}, "- []int(nil)\n+ []int{\n+ }\n"},
		"nil and a value": {nil, 1, "- nil\n+ 1\n"},
		"one more":        {[]int{1, 3}, []int{1, 2, 3}, "  []int{\n    1\n+   2\n    3\n  }\n"},
		"a map's value": {map[string]any{"b": 2, "a": 1}, map[string]any{"b": "2", "a": 1},
			"  map[string]interface {}{\n    \"a\": 1\n-   \"b\": 2\n+   \"b\": \"2\"\n  }\n"},
		"an unexported field": {&inner{[]int{1}}, &inner{[]int{2}},
			"  &cmp.inner{\n    hidden: []int{\n-     1\n+     2\n    }\n  }\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := Diff(tt.want, tt.got); diff != tt.diff {
				t.Errorf("got:\n%swant:\n%s", diff, tt.diff)
			}
		})
	}
}

func TestDiffOmitsLinesFarFromADifference(t *testing.T) {
	want := make([]int, 30)
	got := make([]int, 30)
	got[15] = 1
	diff := Diff(want, got)
	if n := strings.Count(diff, "\n"); n != 1+5+2+5+1 || !strings.HasPrefix(diff, "  ...\n") ||
		!strings.HasSuffix(diff, "  ...\n") {
		t.Errorf("%d lines:\n%s", n, diff)
	}
}

func TestDiffOfDifferentValuesIsNeverEmpty(t *testing.T) {
	loop := &outer{Name: "a"}
	loop.Self = loop
	for name, pair := range map[string][2]any{
		"a value in itself": {loop, &outer{Name: "a"}},
		"not a number":      {math.NaN(), math.NaN()},
		"functions":         {func() {}, func() {}},
	} {
		if Diff(pair[0], pair[1]) == "" {
			t.Errorf("%s: no difference", name)
		}
	}
}
