// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func files(t *testing.T) []File {
	t.Helper()
	all, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 15 {
		t.Fatalf("only %d files", len(all))
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pages is where the files of this repository are shown, for documents that are shipped without them.
const pages = "https://github.com/sockmap-cni/sockmap-cni/blob/main/"

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	all := files(t)
	anchors := map[string][]string{}
	for _, f := range all {
		anchors[f.Path] = f.Anchors
	}
	seen := 0
	for _, f := range all {
		for _, l := range f.Links {
			file, fragment, _ := strings.Cut(l.Target, "#")
			target := f.Path
			if page, ours := strings.CutPrefix(file, pages); ours {
				target = page
			} else if strings.Contains(l.Target, "://") || strings.HasPrefix(l.Target, "mailto:") {
				continue
			} else if file != "" {
				target = path.Join(path.Dir(f.Path), file)
			}
			seen++
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: [%s](%s): %v", f.Path, l.Text, l.Target, err)
				continue
			}
			if fragment != "" && !slices.Contains(anchors[target], fragment) {
				t.Errorf("%s: [%s](%s): no such heading; there are %q", f.Path, l.Text, l.Target, anchors[target])
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d links were looked at", seen)
	}
}

var (
	metricName = regexp.MustCompile(`\bsockmap_[a-z_]*[a-z]\b`)
	metricRow  = regexp.MustCompile("^\\| `(sockmap_[a-z_]+)` \\| (?:counter|gauge|histogram) ")
)

// The metrics of the data path are in METRICS.md, which is made from the code; those of the agent are in
// INSTALL.md.
func TestEveryMetricThatIsShownExists(t *testing.T) {
	all := files(t)
	exported := map[string]bool{}
	for _, f := range all {
		if f.Path != "docs/METRICS.md" && f.Path != "docs/INSTALL.md" {
			continue
		}
		for _, row := range f.Rows {
			if m := metricRow.FindStringSubmatch(row); m != nil {
				exported[m[1]] = true
			}
		}
	}
	if len(exported) < 20 {
		t.Fatalf("only %d metrics are described", len(exported))
	}
	for _, f := range all {
		for _, code := range f.Code {
			for _, name := range metricName.FindAllString(code, -1) {
				if !exported[name] {
					t.Errorf("%s shows the metric %s, which is not described", f.Path, name)
				}
			}
		}
	}
}

func makeTargets(t *testing.T) map[string]bool {
	t.Helper()
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	return targets
}

func TestEveryMakeTargetThatIsShownExists(t *testing.T) {
	targets := makeTargets(t)
	seen := 0
	for _, f := range files(t) {
		for _, words := range f.Commands("make") {
			for _, word := range words {
				if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
					continue
				}
				seen++
				if !targets[word] {
					t.Errorf("%s: make %s: no such target", f.Path, word)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d targets were looked at", seen)
	}
}

var testName = regexp.MustCompile(`^Test[A-Z][A-Za-z0-9]+$`)

// A test that the documentation names is linked to its file, and exists.
func TestEveryTestThatIsNamedExists(t *testing.T) {
	for _, f := range files(t) {
		linked := map[string]bool{}
		for _, l := range f.Links {
			if !testName.MatchString(l.Text) {
				continue
			}
			linked[l.Text] = true
			file := path.Join(path.Dir(f.Path), l.Target)
			if !strings.HasSuffix(file, "_test.go") || !strings.Contains(read(t, file),
				"\nfunc "+l.Text+"(t *testing.T) {") {
				t.Errorf("%s: %s is not a test of %s", f.Path, l.Text, file)
			}
		}
		for _, code := range f.Code {
			if testName.MatchString(code) && !linked[code] && code != "TestMain" {
				t.Errorf("%s: %s is named without a link to its file", f.Path, code)
			}
		}
	}
}

// Each claim of SECURITY.md in a table with tests has one.
func TestEveryClaimHasATest(t *testing.T) {
	claims := 0
	for _, f := range files(t) {
		tests := false
		for i, row := range f.Rows {
			if strings.HasPrefix(row, "|--") {
				continue
			}
			if i+1 < len(f.Rows) && strings.HasPrefix(f.Rows[i+1], "|--") {
				tests = strings.HasSuffix(row, "| test |")
				continue
			}
			if !tests {
				continue
			}
			claims++
			cells := strings.Split(strings.Trim(row, "|"), "|")
			if !strings.Contains(cells[len(cells)-1], "[`Test") {
				t.Errorf("%s: no test is named for: %s", f.Path, row)
			}
		}
	}
	if claims < 15 {
		t.Errorf("only %d claims were looked at", claims)
	}
}
