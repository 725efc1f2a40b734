// SPDX-License-Identifier: Apache-2.0

// Package layout checks rules that reviewers would otherwise have to check: who may import whom, licence
// lines, and sizes.
package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	maxFileLines = 400
	maxFuncLines = 80
)

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// sources calls f for each source file of the repository that is not generated.
func sources(t *testing.T, f func(path string, content string)) {
	t.Helper()
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == ".git" || name == "bin" || name == ".cache" || name == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".go", ".c", ".h", ".sh":
		default:
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.Contains(string(content), "DO NOT EDIT.") || strings.HasSuffix(path, "layout_test.go") {
			f(path, string(content))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLicenceLines(t *testing.T) {
	sources(t, func(path, content string) {
		want := "SPDX-License-Identifier: Apache-2.0"
		if ext := filepath.Ext(path); ext == ".c" || ext == ".h" {
			want = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
		}
		head, _, _ := strings.Cut(content, "\n\n")
		if !strings.Contains(head, want) {
			t.Errorf("%s does not begin with %q", path, want)
		}
	})
}

func TestSizes(t *testing.T) {
	sources(t, func(path, content string) {
		if n := strings.Count(content, "\n"); n > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: split it", path, n, maxFileLines)
		}
		if filepath.Ext(path) == ".go" {
			checkFunctions(t, path, content)
		}
	})
}

func checkFunctions(t *testing.T, path, content string) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, content, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > maxFuncLines {
			t.Errorf("%s: %s has %d lines, more than %d: split it", path, f.Name.Name, n, maxFuncLines)
		}
	}
}
