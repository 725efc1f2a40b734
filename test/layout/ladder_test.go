// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var testTarget = regexp.MustCompile(`(?m)^(test(?:-[a-z]+)*):.*## `)

// test/README.md lists all tests and measurements.
func TestREADMEOfTestsNamesEachFolderAndTarget(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root(t), path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	readme, makefile := read("test/README.md"), read("Makefile")
	targets := testTarget.FindAllStringSubmatch(makefile, -1)
	if len(targets) < 10 {
		t.Fatalf("the Makefile has the targets %q only", targets)
	}
	for _, target := range targets {
		if !strings.Contains(readme, "\n| `make "+target[1]+"` |") {
			t.Errorf("the ladder of test/README.md lacks make %s", target[1])
		}
	}
	entries, err := os.ReadDir(filepath.Join(root(t), "test"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() && !strings.Contains(readme, "\n| [`"+name+"`]("+name+") |") {
			t.Errorf("the table of folders in test/README.md lacks test/%s", name)
		}
	}
	for _, m := range regexp.MustCompile("\n\\| \\[`([a-z0-9]+)`\\]").FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join(root(t), "test", m[1])); err != nil {
			t.Errorf("test/README.md names a folder that does not exist: %v", err)
		}
	}
	for _, m := range regexp.MustCompile("`make ([a-z-]+)`").FindAllStringSubmatch(readme, -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("test/README.md names make %s, which does not exist", m[1])
		}
	}
}
