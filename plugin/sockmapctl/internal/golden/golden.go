// SPDX-License-Identifier: Apache-2.0

package golden

import (
	"flag"
	"os"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// Update is the flag -update: tests write the files.
var Update = flag.Bool("update", false, "write golden files and docs/CLI.md")

// Check compares got with the file, or writes it.
func Check(t *testing.T, path, got string) {
	t.Helper()
	if *Update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./plugin/sockmapctl -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (go test ./plugin/sockmapctl -update):\n%s", path, diff)
	}
}
