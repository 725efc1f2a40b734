// SPDX-License-Identifier: Apache-2.0

package install

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestGlobTakesTheDirectoryLiterally(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, `net[a]*.d\`)
	for _, d := range []string{filepath.Join(dir, "sub"), filepath.Join(parent, "neta.d", "sub")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "one.conflist"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := glob(dir, "*/*.conflist")
	if want := []string{filepath.Join(dir, "sub", "one.conflist")}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
