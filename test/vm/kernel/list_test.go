// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseListReadsLinesSuitesAndPackages(t *testing.T) {
	got, err := ParseList(strings.NewReader("# kernels\n\nold 6.1  bookworm,bookworm-security linux-image a,b c # the oldest\n7 7 sid linux-image - -\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Wanted{
		{Name: "old", Line: "6.1", Suites: []string{"bookworm", "bookworm-security"}, Package: "linux-image",
			Guards: []string{"a", "b"}, Open: []string{"c"}},
		{Name: "7", Line: "7", Suites: []string{"sid"}, Package: "linux-image"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseListRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for name, text := range map[string]string{
		"empty":       "# nothing\n",
		"three words": "6.1 6.1 bookworm\n",
		"twice":       "x 6.1 a p - -\nx 6.12 b p - -\n",
		"a path":      "../x 6.1 a p - -\n",
		"a directory": ".. 6.1 a p - -\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ParseList(strings.NewReader(text)); err == nil {
				t.Errorf("parsed as %+v", got)
			}
		})
	}
}

func TestTheListsOfTheProjectAreValid(t *testing.T) {
	list, err := os.Open("../kernels.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	if _, err := ParseList(list); err != nil {
		t.Error(err)
	}
	modules, err := os.Open("../modules.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer modules.Close()
	if names, err := ParseModules(modules); err != nil || len(names) == 0 {
		t.Errorf("%d modules, %v", len(names), err)
	}
}

func TestALineIsWholeComponentsOfAVersion(t *testing.T) {
	for _, tt := range []struct {
		line, version string
		fits          bool
	}{
		{"6.1", "6.1.176-1", true},
		{"6.1", "6.12.107-1", false},
		{"7", "7.3.4-1~bpo13+1", true},
		{"7", "7~rc1-1", true},
		{"7", "6.7-1", false},
		{"6.1", "6.1", true},
	} {
		if got := (Wanted{Line: tt.line}).fits(tt.version); got != tt.fits {
			t.Errorf("line %s, version %s: %v", tt.line, tt.version, got)
		}
	}
}
