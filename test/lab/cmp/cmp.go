// SPDX-License-Identifier: Apache-2.0

// Package cmp compares values in tests, and shows in which lines two values differ. Its functions are called
// like those of github.com/google/go-cmp, but unexported fields count. It imports nothing of this project, so
// that each test can use it.
package cmp

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Equal reports whether reflect.DeepEqual holds: a nil slice differs from an empty one.
func Equal(x, y any) bool { return reflect.DeepEqual(x, y) }

// context is the number of common lines that Diff shows around a difference.
const context = 5

// Diff returns "" for equal values. Otherwise it returns the lines in which they differ, and some lines
// around them: lines of want only begin with "-", lines of got only with "+".
func Diff(want, got any) string {
	if Equal(want, got) {
		return ""
	}
	before, after := lines(want), lines(got)
	if slices.Equal(before, after) {
		return fmt.Sprintf("- %T %#v\n+ %T %#v\n", want, want, got, got)
	}
	return shorten(diffLines(before, after))
}

// diffLines finds the longest common subsequence of the lines of both.
func diffLines(before, after []string) []string {
	common := make([][]int, len(before)+1) // [i][j]: of before[i:] and after[j:]
	for i := len(before); i >= 0; i-- {
		common[i] = make([]int, len(after)+1)
		for j := len(after) - 1; j >= 0 && i < len(before); j-- {
			if before[i] == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	for i, j := 0, 0; i < len(before) || j < len(after); {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			out = append(out, "  "+before[i])
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "- "+before[i])
			i++
		default:
			out = append(out, "+ "+after[j])
			j++
		}
	}
	return out
}

// shorten leaves out common lines that are far from every difference.
func shorten(all []string) string {
	var out strings.Builder
	for i, line := range all {
		near := all[max(0, i-context):min(len(all), i+context+1)]
		if slices.ContainsFunc(near, func(s string) bool { return s[0] != ' ' }) {
			out.WriteString(line + "\n")
		} else if i == 0 || out.Len() > 0 && !strings.HasSuffix(out.String(), "...\n") {
			out.WriteString("  ...\n")
		}
	}
	return out.String()
}

func lines(v any) []string {
	var out []string
	if v == nil {
		return []string{"nil"}
	}
	render(&out, "", "", reflect.ValueOf(v), 0)
	return out
}

// deepest bounds values that contain themselves.
const deepest = 20

// render appends the lines of v. The first line begins with name.
func render(out *[]string, indent, name string, v reflect.Value, depth int) {
	add := func(s string) { *out = append(*out, indent+name+s) }
	switch kind := v.Kind(); {
	case depth > deepest:
		add("...")
	case (kind == reflect.Pointer || kind == reflect.Interface) && !v.IsNil():
		render(out, indent, name+map[bool]string{true: "&"}[kind == reflect.Pointer], v.Elem(), depth+1)
	case kind == reflect.Struct:
		add(v.Type().String() + "{")
		for i := range v.NumField() {
			render(out, indent+"  ", v.Type().Field(i).Name+": ", v.Field(i), depth+1)
		}
		*out = append(*out, indent+"}")
	case kind == reflect.Map && !v.IsNil():
		add(v.Type().String() + "{")
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(plain(a), plain(b)) })
		for _, key := range keys {
			render(out, indent+"  ", plain(key)+": ", v.MapIndex(key), depth+1)
		}
		*out = append(*out, indent+"}")
	case kind == reflect.Array, kind == reflect.Slice && !v.IsNil():
		add(v.Type().String() + "{")
		for i := range v.Len() {
			render(out, indent+"  ", "", v.Index(i), depth+1)
		}
		*out = append(*out, indent+"}")
	case kind == reflect.String && strings.Contains(v.String(), "\n"):
		add(v.Type().String() + ", lines:")
		for line := range strings.SplitSeq(v.String(), "\n") {
			*out = append(*out, fmt.Sprintf("%s  %q", indent, line))
		}
	default:
		add(plain(v))
	}
}

// plain is v in one line.
func plain(v reflect.Value) string { return fmt.Sprintf("%#v", v) }
