// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLinksLeadToPackagedFilesOrToTheRepository(t *testing.T) {
	root, dir := t.TempDir(), filepath.Join(t.TempDir(), "doc")
	for name, text := range map[string]string{
		"README.md": "[a](docs/A.md#x) [b](docs) [c](pkg/x) [`T`](x_test.go#L1) [d](#here)\n[e](mailto:x) [f](https://h/p)\n" +
			"```\n[g](pkg/y)\n```\n[h](pkg/y)\n",
		"docs/A.md":         "[up](../README.md) ![i](images/i.svg) [adr](adr/1.md) [code](../pkg/x)\n",
		"docs/adr/1.md":     "[A](../A.md)\n",
		"docs/images/i.svg": "<svg/>",
		"pkg/x":             "",
		"test/README.md":    "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(root, dir, "https://h/r"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"README.md": "[a](docs/A.md#x) [b](docs) [c](https://h/r/pkg/x) [`T`](https://h/r/x_test.go#L1) [d](#here)\n" +
			"[e](mailto:x) [f](https://h/p)\n```\n[g](pkg/y)\n```\n[h](https://h/r/pkg/y)\n",
		"docs/A.md":         "[up](../README.md) ![i](images/i.svg) [adr](adr/1.md) [code](https://h/r/pkg/x)\n",
		"docs/adr/1.md":     "[A](../A.md)\n",
		"docs/images/i.svg": "<svg/>",
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %v:\n%s, want\n%s", name, err, got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "test")); !os.IsNotExist(err) {
		t.Errorf("test is shipped: %v", err)
	}
}
