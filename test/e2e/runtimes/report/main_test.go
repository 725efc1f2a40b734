// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/row"
)

func TestRowsBecomeATable(t *testing.T) {
	dir := t.TempDir()
	for name, r := range map[string]row.Row{
		"z": {Runtime: "alpha", Version: "1", Cgroup: "a|b", Calls: []string{"ADD", "DEL"}, Result: "redirected"},
		"a": {Runtime: "Beta", Version: "2", Cgroup: "c", Calls: []string{"ADD"}, Result: "redirected"},
	} {
		if err := row.Write(dir, name, r); err != nil {
			t.Fatal(err)
		}
	}
	doc := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(doc, []byte("before\n"+section.Begin()+"old\n"+section.End()+"after\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	seldom := t.TempDir()
	if err := row.Write(seldom, "m", row.Row{Runtime: "b", Version: "3", Cgroup: "d", Calls: []string{"GC"},
		Result: "seldom"}); err != nil {
		t.Fatal(err)
	}
	if err := run(&bytes.Buffer{}, []string{"-into", doc, dir, seldom}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	want := "|---|---|---|---|---|\n| alpha | 1 | a\\|b | ADD, DEL | redirected |\n| b | 3 | d | GC | seldom |\n| Beta | 2 | c | ADD | redirected |\n" + section.End() + "after\n"
	if !strings.HasPrefix(string(got), "before\n"+section.Begin()) || !strings.HasSuffix(string(got), want) {
		t.Errorf("the document is\n%s", got)
	}
}

func TestMissingAndIncompleteRowsAreErrors(t *testing.T) {
	if err := run(&bytes.Buffer{}, []string{t.TempDir()}); err == nil ||
		!strings.Contains(err.Error(), "make test-runtimes") {
		t.Errorf("a directory without rows: %v", err)
	}
	if err := row.Write(t.TempDir(), "x", row.Row{Runtime: "x"}); !errors.Is(err, row.ErrIncomplete) {
		t.Errorf("a row that is not complete: %v", err)
	}
}
