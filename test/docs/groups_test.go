// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rule is a target of the Makefile.
type rule struct {
	needs  []string // other targets
	setups []string // arguments of test/setup.sh, which installs packages and for that needs root
}

var (
	ruleHead  = regexp.MustCompile(`^([a-z-]+):([^=#]*)(?:#.*)?$`)
	setupCall = regexp.MustCompile(`test/setup\.sh ([a-z-]+)`)
)

// rules reads the targets of a Makefile.
func rules(makefile string) map[string]rule {
	all := map[string]rule{}
	current := ""
	for line := range strings.Lines(makefile) {
		line = strings.TrimRight(line, "\n")
		if m := ruleHead.FindStringSubmatch(line); m != nil {
			current = m[1]
			r := all[current]
			r.needs = append(r.needs, strings.Fields(m[2])...)
			all[current] = r
		} else if m := setupCall.FindStringSubmatch(line); m != nil && strings.HasPrefix(line, "\t") {
			r := all[current]
			r.setups = append(r.setups, m[1])
			all[current] = r
		}
	}
	return all
}

// setupsOf are the arguments of test/setup.sh for a target and for those that it needs.
func setupsOf(all map[string]rule, target string) (setups []string) {
	setups = append(setups, all[target].setups...)
	for _, need := range all[target].needs {
		setups = append(setups, setupsOf(all, need)...)
	}
	return setups
}

// lacking returns the steps of a job that install packages without root. A step that has called test/setup.sh
// as root has installed them for the steps behind it.
func lacking(j job, all map[string]rule) (wrong []string) {
	installed := map[string]bool{}
	for _, step := range j.Steps {
		for line := range strings.Lines(step.Run) {
			if strings.HasPrefix(strings.TrimSpace(line), "sudo ") {
				for _, m := range setupCall.FindAllStringSubmatch(line, -1) {
					installed[m[1]] = true
				}
				continue
			}
			for _, m := range setupCall.FindAllStringSubmatch(line, -1) {
				wrong = append(wrong, "test/setup.sh "+m[1])
			}
			for _, target := range targetsOf(line, j.Strategy.Matrix) {
				for _, setup := range setupsOf(all, target) {
					if !installed[setup] {
						wrong = append(wrong, "make "+target)
					}
				}
			}
		}
	}
	return wrong
}

func workflows(t *testing.T) map[string]workflow {
	t.Helper()
	all := map[string]workflow{}
	for _, path := range yamlFiles(t, ".github/workflows") {
		var w workflow
		readYAML(t, path, &w)
		all[filepath.Base(path)] = w
	}
	return all
}

// The runner's user is not root, and test/setup.sh does not call sudo.
func TestWorkflowsInstallPackagesAsRoot(t *testing.T) {
	all := rules(read(t, "Makefile"))
	if got := setupsOf(all, "lint"); !slices.Equal(got, []string{"lint"}) {
		t.Fatalf("make lint calls test/setup.sh with %q", got)
	}
	for file, w := range workflows(t) {
		for name, job := range w.Jobs {
			for _, step := range lacking(job, all) {
				t.Errorf("%s: %s: %s installs packages: add a step before it: sudo --preserve-env=PATH test/setup.sh ...",
					file, name, step)
			}
		}
	}
}

// Whatever make test runs, the workflow for each change runs.
func TestTheWorkflowRunsEveryGroupOfTests(t *testing.T) {
	groups := rules(read(t, "Makefile"))["test"].needs
	if len(groups) < 10 {
		t.Fatalf("make test has only the groups %q", groups)
	}
	runs := map[string]bool{}
	for _, job := range workflows(t)["ci.yml"].Jobs {
		for _, step := range job.Steps {
			for _, target := range targetsOf(step.Run, job.Strategy.Matrix) {
				runs[target] = true
			}
		}
	}
	for _, group := range groups {
		if !runs[group] {
			t.Errorf("ci.yml does not run make %s, which make test runs; it runs %q", group,
				slices.Sorted(maps.Keys(runs)))
		}
	}
}

func TestStepsThatLackPackagesAreFound(t *testing.T) {
	all := rules("VERSION := 1\ntest: X := y\ntest: a b ## all\na: ## one\n\t@test/setup.sh lint\nb: a\n\techo\n")
	if got := all["test"].needs; !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("test needs %q", got)
	}
	for run, want := range map[string]int{
		"make a":                              1,
		"make b":                              1,
		"sudo make a":                         0,
		"sudo test/setup.sh lint\nmake a":     0,
		"sudo test/setup.sh generate\nmake b": 1,
		"make b\nsudo test/setup.sh lint":     1,
		"test/setup.sh lint\nmake b":          2,
	} {
		j := job{Steps: []step{{Run: run}}}
		if got := lacking(j, all); len(got) != want {
			t.Errorf("%q: %q, want %d", run, got, want)
		}
	}
}
