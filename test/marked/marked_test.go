// SPDX-License-Identifier: Apache-2.0

package marked

import (
	"os"
	"path/filepath"
	"testing"
)

var section = Section{Name: "x", Target: "docs"}

func TestTheRestOfTheDocumentIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.md")
	if err := os.WriteFile(path, []byte("above\n"+section.Begin()+"old\n"+section.End()+"below\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing changes
		if err := section.Into(path, "new\n"); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if want := "above\n" + section.Begin() + "new\n" + section.End() + "below\n"; err != nil ||
			string(got) != want {
			t.Errorf("the document is %q, %v; want %q", got, err, want)
		}
	}
}

func TestADocumentWithoutTheMarkedLinesIsNotTouched(t *testing.T) {
	for _, document := range []string{"", section.Begin(), section.End() + section.Begin()} {
		if text, err := section.Replace(document, "x"); err == nil {
			t.Errorf("%q became %q", document, text)
		}
	}
	if err := section.Into(filepath.Join(t.TempDir(), "none.md"), "x"); err == nil {
		t.Error("a document that is not there was written")
	}
}
