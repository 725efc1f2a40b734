// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestParseListReadsLinesSuitesAndPackages(t *testing.T) {
	got, err := ParseList(strings.NewReader("# kernels\n\nold 6.1 amd64 bookworm,bookworm-security linux-image often all a,b c # the oldest\n" +
		"7 7 arm64 sid linux-image seldom p,q - - quiet x=1\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Wanted{
		{Name: "old", Line: "6.1", Arch: "amd64", Suites: []string{"bookworm", "bookworm-security"},
			Package: "linux-image",
			Often:   true, Guards: []string{"a", "b"}, Open: []string{"c"}, Parameters: []string{}},
		{Name: "7", Line: "7", Arch: "arm64", Suites: []string{"sid"}, Package: "linux-image",
			Only:       []string{"p", "q"},
			Parameters: []string{"quiet", "x=1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseListRefusesMalformedLines(t *testing.T) {
	for name, text := range map[string]string{
		"empty":       "# nothing\n",
		"three words": "6.1 6.1 bookworm\n",
		"twice":       "x 6.1 amd64 a p often all - -\nx 6.12 amd64 b p often all - -\n",
		"a path":      "../x 6.1 amd64 a p often all - -\n",
		"a directory": ".. 6.1 amd64 a p often all - -\n",
		"when":        "x 6.1 amd64 a p now all - -\n",
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
	if names, err := ParseNames(modules); err != nil || len(names) == 0 {
		t.Errorf("%d modules, %v", len(names), err)
	}
}

func TestLineMatchesWholeComponentsOfAVersion(t *testing.T) {
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
