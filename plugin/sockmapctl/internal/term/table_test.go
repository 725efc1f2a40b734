// SPDX-License-Identifier: Apache-2.0

package term

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func exampleTable() *Table {
	t := &Table{Columns: []Column{
		{Title: "ADDR", Min: 6, KeepEnd: true},
		{Title: "NAME", Min: 6},
		{Title: "ROLE", Drop: 1},
		{Title: "BYTES", Right: true},
	}}
	t.Add("10.0.0.1:80", "a-rather-long-name", "active", "7")
	t.Add("10.0.0.2:8080", "", "passive", "123456")
	return t
}

func TestTablesFitTheTerminal(t *testing.T) {
	for _, tt := range []struct {
		width int
		want  string
		left  string
	}{
		{0, "" +
			"ADDR           NAME                ROLE      BYTES\n" +
			"10.0.0.1:80    a-rather-long-name  active        7\n" +
			"10.0.0.2:8080  -                   passive  123456\n", ""},
		{44, "" +
			"ADDR           NAME          ROLE      BYTES\n" +
			"10.0.0.1:80    a-rather-lo…  active        7\n" +
			"10.0.0.2:8080  -             passive  123456\n", ""},
		{30, "" +
			"ADDR        NAME         BYTES\n" +
			"….0.0.1:80  a-rather-…       7\n" +
			"….0.2:8080  -           123456\n", "ROLE"},
	} {
		t.Run(fmt.Sprint(tt.width), func(t *testing.T) {
			var out strings.Builder
			left, err := exampleTable().Write(&out, tt.width, true)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Join(left, " ") != tt.left {
				t.Errorf("left out %q, want %q", left, tt.left)
			}
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(line) - 1; tt.width > 0 && n > tt.width {
					t.Errorf("%d columns: %q", n, line)
				}
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTableFitsEveryWidth(t *testing.T) {
	for width := 24; width < 60; width++ {
		var out strings.Builder
		if _, err := exampleTable().Write(&out, width, true); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(line) - 1; n > width {
				t.Errorf("width %d: %d columns: %q", width, n, line)
			}
		}
	}
}

func TestNamesOfOthersCannotSteerTheTerminal(t *testing.T) {
	tab := &Table{Columns: []Column{{Title: "NAME"}}}
	tab.Add("evil\x1b[2J\r\nname\u202e")
	var out strings.Builder
	if _, err := tab.Write(&out, 0, false); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "evil?[2J??name?\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStatusLinesAreWrapped(t *testing.T) {
	for _, tt := range []struct {
		text string
		room int
		want []string
	}{
		{"short", 40, []string{"short"}},
		{"one two three four five six seven", 20, []string{"one two three four", "five six seven"}},
		{"no room for anything at all", 5, []string{"no room for anything at all"}},
		{"a-word-that-is-much-longer-than-the-room and more", 20,
			[]string{"a-word-that-is-much-longer-than-the-room", "and more"}},
	} {
		if diff := cmp.Diff(tt.want, Wrap(tt.text, tt.room)); diff != "" {
			t.Errorf("%q in %d: %s", tt.text, tt.room, diff)
		}
	}
}

// A title may have letters of several bytes: it takes the columns that it shows.
func TestWidthOfATitleIsCountedInRunes(t *testing.T) {
	tab := &Table{Columns: []Column{{Title: "SENT→", Right: true}, {Title: "←SENT", Right: true}}}
	tab.Add("1", "2")
	var out strings.Builder
	left, err := tab.Write(&out, 12, true)
	if want := "SENT→  ←SENT\n    1      2\n"; err != nil || out.String() != want || len(left) > 0 {
		t.Errorf("%q without %q, %v, want %q", out.String(), left, err, want)
	}
}
