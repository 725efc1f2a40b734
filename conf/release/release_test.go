// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	tested      = "v9.8.7"
	testedImage = "registry.example/sockmap-cni"
)

// The second build has another directory, time, umask, time zone, language, user and settings of Go.
var otherEnvironment = []string{
	"TZ=Asia/Kathmandu", "LANG=de_DE.UTF-8", "LC_ALL=", "USER=somebody", "LOGNAME=somebody",
	"HOSTNAME=elsewhere",
	"GOFLAGS=-buildvcs=false", "GOAMD64=v3", "GODEBUG=madvdontneed=1",
}

func TestRelease(t *testing.T) {
	dir := t.TempDir()
	first := filepath.Join(dir, "first")
	cloneWorkTree(t, first)
	build(t, first, "022", nil)
	// Somewhere else, with a longer name, a clone of the clone.
	second := filepath.Join(dir, "another", "place", "sockmap-cni")
	if err := os.MkdirAll(filepath.Dir(second), 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, dir, nil, "git", "clone", "--quiet", first, second)
	build(t, second, "077", otherEnvironment)

	out := filepath.Join(first, "bin", "release")
	t.Run("the same bytes", func(t *testing.T) { checkEqual(t, out, filepath.Join(second, "bin", "release")) })
	t.Run("checksums", func(t *testing.T) { checkSums(t, first) })
	t.Run("archives", func(t *testing.T) { checkArchives(t, out) })
	t.Run("manual pages", func(t *testing.T) { checkManuals(t, out) })
	t.Run("image", func(t *testing.T) { checkImage(t, first, out) })
	t.Run("push", func(t *testing.T) { checkPush(t, out) })
	t.Run("chart", func(t *testing.T) { checkChart(t, out) })
	t.Run("packages", func(t *testing.T) { checkPackages(t, out) })
	t.Run("bill of materials", func(t *testing.T) { checkSBOM(t, first, out) })
	t.Run("links", func(t *testing.T) { checkLinked(t, first) })
}

// cloneWorkTree makes a repository in dir with one commit more than this one: the work tree as it is, so that
// changes are tested before they are committed. That commit has the tag of a release.
func cloneWorkTree(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	output(t, root, nil, "git", "clone", "--quiet", "--shared", "--no-checkout", root, dir)
	output(t, root, nil, "git", "--git-dir", filepath.Join(dir, ".git"), "--work-tree", root, "add", "--all")
	commit(t, dir)
	output(t, dir, nil, "git", "reset", "--quiet", "--hard")
	tag(t, dir, tested)
}

var identity = []string{"-c", "user.name=test", "-c", "user.email=test@localhost", "-c",
	"commit.gpgsign=false", "-c", "tag.gpgsign=false"}

func commit(t *testing.T, dir string) {
	t.Helper()
	output(t, dir, nil, "git", slices.Concat(identity,
		[]string{"commit", "--quiet", "--allow-empty", "--no-verify", "-m", "as tested"})...)
}

func tag(t *testing.T, dir, name string) {
	t.Helper()
	output(t, dir, nil, "git", slices.Concat(identity, []string{"tag", "-a", name, "-m", name})...)
}

func build(t *testing.T, dir, umask string, environment []string) {
	t.Helper()
	output(t, dir, environment, "sh", "-c",
		"umask "+umask+" && make release VERSION="+tested+" IMAGE="+testedImage)
}

// output runs a program and returns its standard output.
func output(t *testing.T, dir string, environment []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v:\n%s%s", name, strings.Join(args, " "), err, out.String(), complaint.String())
	}
	return strings.TrimSpace(out.String())
}

// digests has each file below dir.
func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[name], err = digest(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func checkEqual(t *testing.T, a, b string) {
	t.Helper()
	one, other := digests(t, a), digests(t, b)
	if len(one) < 15 {
		t.Errorf("only %d files: %q", len(one), slices.Sorted(maps.Keys(one)))
	}
	for name, sum := range one {
		if other[name] != sum {
			t.Errorf("%s is not the same: %s and %q", name, sum, other[name])
		}
	}
	for name := range other {
		if one[name] == "" {
			t.Errorf("%s was built only once", name)
		}
	}
}

// publishes is the command in the workflow that lists the files of a release.
var publishes = regexp.MustCompile(`gh release create .*\$\((find bin/release [^)]*)\)`)

// documented is the command in docs/RELEASE.md that compares the digests.
var documented = regexp.MustCompile("(?m)^sha256sum .*$")

func found(t *testing.T, pattern *regexp.Regexp, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	match := pattern.FindStringSubmatch(string(text))
	if match == nil {
		t.Fatalf("%s does not have %s", file, pattern)
	}
	return match
}

// checkSums verifies the release as somebody who has downloaded all of its files: the files that the workflow
// publishes, in one directory without any below it.
func checkSums(t *testing.T, top string) {
	t.Helper()
	list := found(t, publishes, filepath.Join(top, ".github/workflows/release.yml"))[1]
	published := strings.Fields(output(t, top, nil, "sh", "-c", list))
	if len(published) < 10 {
		t.Fatalf("the workflow publishes only %q", published)
	}
	downloads := t.TempDir()
	output(t, top, nil, "cp", append(published, downloads)...)
	checked := output(t, downloads, nil, "sh", "-ec",
		found(t, documented, filepath.Join(top, "docs/RELEASE.md"))[0]+" --strict")
	if listed := strings.Count(checked, ": OK"); listed != len(published)-1 {
		t.Errorf("SHA256SUMS has %d files, and %d are published", listed, len(published)-1)
	}
}

func TestOnlyTaggedCleanCommitsAreReleased(t *testing.T) {
	dir := t.TempDir()
	output(t, dir, nil, "git", "init", "--quiet")
	commit(t, dir)
	expect := func(version string, allow bool, want, complaint string) {
		t.Helper()
		got, err := check(dir, version, allow)
		if got != want || (err == nil) != (complaint == "") || err != nil &&
			!strings.Contains(err.Error(), complaint) {
			t.Errorf("%s (allowed: %v): %q, %v; want %q, %q", version, allow, got, err, want, complaint)
		}
	}
	expect("0123abc", false, "", `"0123abc" is no version such as v1.2.3`)
	expect("0123abc", true, "0123abc", "")
	expect("v1.2.3", false, "", "has no tag v1.2.3 (set it with: git tag -a v1.2.3")
	tag(t, dir, "v1.2.3")
	expect("v1.2.3", false, "v1.2.3", "")
	expect("v1.2.4", false, "", "has no tag v1.2.4")
	expect("v1.2.3-1-gabc", false, "", "is no version such as")
	tag(t, dir, "v2.0.0-rc.1")
	expect("v2.0.0-rc.1", false, "v2.0.0-rc.1", "")
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("v1.2.3", false, "", "the tree has changes that are not committed: ?? new")
	expect("v1.2.3", true, "v1.2.3-dirty", "")
	expect("v1.2.3-dirty", true, "v1.2.3-dirty", "")
}

func TestChartVersion(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "1.2.3", "v1.2.3-rc.1": "1.2.3-rc.1", "v1.2.3-4-gabcdef-dirty": "1.2.3-4-gabcdef-dirty",
		"0123456": "0.0.0-g0123456",
	} {
		if got := chartVersion(version); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}
