// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// packages returns the folders that need a row in ARCHITECTURE.md: every folder with Go files below pkg and
// plugin, and the folders directly below test.
func packages(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for _, top := range []string{"pkg", "plugin", "test"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return fs.SkipDir
			}
			if d.IsDir() || filepath.Ext(name) != ".go" {
				return nil
			}
			dir, err := filepath.Rel(root, filepath.Dir(name))
			if err != nil {
				return err
			}
			dir = filepath.ToSlash(dir)
			if rest, ok := strings.CutPrefix(dir, "test/"); ok {
				first, _, _ := strings.Cut(rest, "/")
				dir = "test/" + first
			}
			found[dir] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func TestEveryPackageHasARow(t *testing.T) {
	const page = "docs/ARCHITECTURE.md"
	rows := map[string]bool{}
	for _, f := range files(t) {
		if f.Path != page {
			continue
		}
		for _, row := range f.Rows {
			cell, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
			for _, link := range parse(page, []byte(cell)).Links {
				dir := path.Join(path.Dir(page), strings.TrimSuffix(link.Target, "/README.md"))
				rows[dir] = true
				// A row for a part of a test folder describes that folder.
				if parts := strings.Split(dir, "/"); parts[0] == "test" && len(parts) > 1 {
					rows[path.Join(parts[:2]...)] = true
				}
			}
		}
	}
	all := packages(t)
	if len(all) < 40 {
		t.Fatalf("only %d packages were found", len(all))
	}
	for _, dir := range all {
		if !rows[dir] {
			t.Errorf("%s: add a row for the folder %s to the table of folders", page, dir)
		}
	}
}
