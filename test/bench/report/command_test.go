// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/report/cells"
	"github.com/sockmap-cni/sockmap-cni/test/bench/report/picture"
	"github.com/sockmap-cni/sockmap-cni/test/bench/report/text"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
)

func TestReportMatchesTheGoldenFile(t *testing.T) {
	document, images := place(t)
	for range 2 { // the second time over the first
		if err := run(&bytes.Buffer{}, []string{"-into", document, "-images", images, "testdata"}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/report.golden.md", string(got)) // of the invented results beside it
	for _, name := range picture.Names {
		if !strings.Contains(string(got), "](images/"+name+".svg)") {
			t.Errorf("the report does not show %s", name)
		}
	}
}

func TestPicturesAreThoseOfTheResults(t *testing.T) {
	document, images := place(t)
	if err := run(&bytes.Buffer{}, []string{"-into", document, "-images", images, "testdata"}); err != nil {
		t.Fatal(err)
	}
	results := t.TempDir()
	machines, err := cells.Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if err := machines[0].Files[1].Write(filepath.Join(results, "programs.json")); err != nil {
		t.Fatal(err)
	}
	if err := run(&bytes.Buffer{}, []string{"-into", document, "-images", images, results}); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(images, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("with programs only there are %q, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(images, "node.svg")); err != nil {
		t.Errorf("a foreign picture: %v", err)
	}
}

// place is a document and a directory of pictures that contains a foreign one.
func place(t *testing.T) (document, images string) {
	t.Helper()
	dir := t.TempDir()
	document, images = filepath.Join(dir, "PERFORMANCE.md"), filepath.Join(dir, "images")
	if err := os.Mkdir(images, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{document: "above\n" + section.Begin() + section.End() + "below\n",
		filepath.Join(images, "node.svg"): "<svg/>"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return document, images
}

func TestReportWithoutADocumentIsPrintedWithoutPictures(t *testing.T) {
	var out bytes.Buffer
	if err := run(&out, []string{"testdata"}); err != nil || !strings.Contains(out.String(), "### Goals") ||
		strings.Contains(out.String(), "![") {
		t.Errorf("%v:\n%s", err, out.String())
	}
}

func TestErrorsOfTheReportNameTheCause(t *testing.T) {
	for want, args := range map[string][]string{
		"make bench writes": {}, "none (make bench writes": {"-keep", t.TempDir(), t.TempDir()},
		"none (make bench": {t.TempDir()}, "read document": {"-into", filepath.Join(t.TempDir(), "none.md"),
			"testdata"},
	} {
		if err := run(&bytes.Buffer{}, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

// The document itself has its marked lines, and no invented results between them.
func TestDocumentHasMarkersForTheResults(t *testing.T) {
	text, err := os.ReadFile("../../../docs/PERFORMANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := section.Replace(string(text), ""); err != nil {
		t.Error(err)
	}
	if strings.Contains(string(text), "synthetic") {
		t.Error("the document has the numbers of the tests")
	}
}

// The documents are those that the kept results give: neither was edited without the other.
func TestDocumentsAreThoseOfTheResults(t *testing.T) {
	const repo, results = "../../../", "../results"
	document, readme := filepath.Join(repo, "docs/PERFORMANCE.md"), filepath.Join(repo, "README.md")
	machines, err := cells.Load(results)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := links(document, filepath.Join(repo, "docs/images"), picture.All(machines))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		document: section.Begin() + text.Section(machines, shown) + section.End(),
		readme:   short.Begin() + text.Range(machines) + short.End(),
	} {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(got), want) {
			t.Errorf("%s differs from %s: make bench-report writes it", path, results)
		}
	}
}

// The name of a directory is the kind of machine of its results, so that a new run replaces them.
func TestResultsAreInTheDirectoryOfTheirMachine(t *testing.T) {
	paths, err := filepath.Glob("../results/*/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%q, %v", paths, err)
	}
	for _, path := range paths {
		if filepath.Base(path) == "limits.json" {
			continue
		}
		f, err := result.Read(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := filepath.Base(filepath.Dir(path)); f.Machine.Kind() != want {
			t.Errorf("%s is of %s", path, f.Machine.Kind())
		}
	}
}
