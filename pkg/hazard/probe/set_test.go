// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// These files have no influence on what the probes find.
var noProbes = []string{"hazard.go", "load.go", "set.go"}

func TestDigestOfProbesCoversEveryFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || slices.Contains(noProbes, name) {
			continue
		}
		embedded, err := sources.ReadFile(name)
		text, readErr := os.ReadFile(name)
		if err != nil || readErr != nil || string(embedded) != string(text) {
			t.Errorf("%s is not in go:embed of set.go: %v, %v", name, err, readErr)
		}
	}
	if set := Digest(); len(set) != len("sha256:")+64 {
		t.Errorf("the set is %q", set)
	}
}
