// SPDX-License-Identifier: Apache-2.0

package host

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const documentDir = "usr/share/doc/sockmap-cni"

// documented are documents that README.md of the package leads to, directly or through others.
var documented = []string{
	"README.md", "KNOWN_ISSUES.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/INSTALL.md",
	"docs/hosts/PODMAN.md", "docs/adr/README.md", "docs/images/node.svg",
}

var markdownLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)

// checkDocuments follows each relative link of the documents below root, the unpacked package.
func checkDocuments(t *testing.T, root string) {
	t.Helper()
	dir := filepath.Join(root, documentDir)
	for _, name := range documented {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range markdownLink.FindAllStringSubmatch(string(text), -1) {
			file, _, _ := strings.Cut(m[1], "#")
			if file == "" || strings.Contains(file, ":") {
				continue
			}
			seen++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), file)); err != nil {
				t.Errorf("%s: %v", strings.TrimPrefix(path, dir), err)
			}
		}
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("%d links were followed, %v", seen, err)
	}
}

// checkChangelog: the changelog of Debian has the version of the package and the changes of CHANGELOG.md.
func checkChangelog(t *testing.T, root, version string) {
	t.Helper()
	file := filepath.Join(root, documentDir, "changelog.gz")
	plain := filepath.Join(t.TempDir(), "changelog")
	if err := os.WriteFile(plain, []byte(output(t, "gzip", "-dc", file)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"Version": version, "Source": "sockmap-cni"} {
		if got := output(t, "dpkg-parsechangelog", "-l", plain, "-S", field); got != want {
			t.Errorf("%s of the changelog is %q, want %q", field, got, want)
		}
	}
	page, err := os.ReadFile(filepath.Join(top, "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	changes := output(t, "dpkg-parsechangelog", "-l", plain, "-S", "Changes")
	items := regexp.MustCompile(`(?m)^- (\w+ \w+)`).FindAllStringSubmatch(string(page), -1)
	if len(items) == 0 {
		t.Fatal("CHANGELOG.md has no items")
	}
	if !strings.Contains(changes, "* "+items[0][1]) {
		t.Errorf("the changelog does not have the first item of CHANGELOG.md, %q:\n%s", items[0][1], changes)
	}
}
