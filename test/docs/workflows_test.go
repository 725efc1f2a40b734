// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// workflow has the parts of a file in .github/workflows that the tests check.
type workflow struct {
	Permissions *map[string]string `yaml:"permissions"`
	Jobs        map[string]job     `yaml:"jobs"`
}

type job struct {
	Strategy struct {
		Matrix map[string][]string `yaml:"matrix"`
	} `yaml:"strategy"`
	Steps []step `yaml:"steps"`
}

type step struct {
	Uses string `yaml:"uses"`
	Run  string `yaml:"run"`
}

func readYAML(t *testing.T, path string, v any) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, v); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

func yamlFiles(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, dir, "*.yml"))
	if err != nil || len(found) < 2 {
		t.Fatalf("%s: %q, %v", dir, found, err)
	}
	return found
}

var (
	pinned = regexp.MustCompile(`^[a-z-]+/[a-z-]+@(v[0-9]+|[0-9a-f]{40})$`)
	// A host followed by a path, except this project's pages.
	registryHost = regexp.MustCompile(`\b(docker|ghcr|quay|gcr|registry)\.[a-z.]+/`)
)

// Workflows run what developers run: every target is in the Makefile.
func TestWorkflowsRunMakeTargetsThatExist(t *testing.T) {
	targets := makeTargets(t)
	seen := map[string]bool{}
	for _, path := range yamlFiles(t, ".github/workflows") {
		var w workflow
		readYAML(t, path, &w)
		if w.Permissions == nil {
			t.Errorf("%s: no permissions at the top: jobs would have those of the repository's settings", path)
		}
		for name, job := range w.Jobs {
			for _, step := range job.Steps {
				if step.Uses != "" && !pinned.MatchString(step.Uses) {
					t.Errorf("%s: %s: %s is not pinned to a major version or a commit", path, name, step.Uses)
				}
				for _, target := range targetsOf(step.Run, job.Strategy.Matrix) {
					seen[target] = true
					if !targets[target] {
						t.Errorf("%s: %s: make %s: no such target", path, name, target)
					}
				}
			}
		}
		if content := read(t, strings.TrimPrefix(path, root+"/")); registryHost.MatchString(content) {
			t.Errorf("%s names the host of a registry: use vars", path)
		}
	}
	for _, want := range []string{"lint", "test-host", "test-release", "release", "release-push"} {
		if !seen[want] {
			t.Errorf("no workflow runs make %s", want)
		}
	}
}

// targetsOf are the targets that a step makes, for each value of the matrix.
func targetsOf(run string, matrix map[string][]string) (targets []string) {
	for _, line := range strings.Split(run, "\n") {
		words := split(line)
		for i, word := range words {
			if word != "make" {
				continue
			}
			for _, target := range upToEnd(words[i+1:]) {
				// ${{ matrix.NAME }}, which split divides into three words.
				if name, ok := strings.CutPrefix(target, "matrix."); ok {
					targets = append(targets, matrix[name]...)
				} else if !strings.ContainsAny(target, "=${}") {
					targets = append(targets, target)
				}
			}
		}
	}
	return targets
}

func TestTargetsOf(t *testing.T) {
	got := targetsOf("sudo -E make ${{ matrix.a }} lint VERSION=${X} # why",
		map[string][]string{"a": {"x", "y"}})
	if want := []string{"x", "y", "lint"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The forms for issues ask for the file that has most of the facts.
func TestIssueFormsAskForASupportBundle(t *testing.T) {
	for _, path := range yamlFiles(t, ".github/ISSUE_TEMPLATE") {
		var form struct {
			Name, Description string
			Body              []struct {
				Type, ID   string
				Attributes map[string]any
			}
		}
		readYAML(t, path, &form)
		if filepath.Base(path) == "config.yml" {
			continue
		}
		if form.Name == "" || form.Description == "" || len(form.Body) == 0 {
			t.Errorf("%s: %+v", path, form)
		}
		ids := map[string]bool{}
		for _, part := range form.Body {
			if part.Type != "markdown" && (part.ID == "" || ids[part.ID] || part.Attributes["label"] == nil) {
				t.Errorf("%s: %+v: an id of its own and a label are needed", path, part)
			}
			ids[part.ID] = true
		}
		if !strings.Contains(read(t, strings.TrimPrefix(path, root+"/")), "sockmapctl support-bundle") {
			t.Errorf("%s does not ask for sockmapctl support-bundle", path)
		}
	}
}
