// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// kept is the directory of the reports from which the table is made, a file for each kernel.
const kept = "test/programs/results"

// keepCommand copies the reports of guests below the directories. Later reports replace the cases of earlier
// ones. It keeps the old report of a kernel that has not run, or whose run was incomplete.
func keepCommand(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: a directory of results is needed", flag.ErrHelp)
	}
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	commit, err := exec.CommandContext(ctx, "git", "-C", root, "rev-parse", "--short=10", "HEAD").Output()
	if err != nil {
		return fmt.Errorf("read the commit by git: %w", err)
	}
	return keep(args, filepath.Join(root, kept), strings.TrimSpace(string(commit)))
}

func keep(from []string, into, commit string) error {
	reports := map[string]*Report{}
	for _, dir := range from {
		files, err := filepath.Glob(filepath.Join(dir, "*", "programs", "programs.json"))
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return fmt.Errorf("no reports below %s: run the guests first (make test-programs-all)", dir)
		}
		for _, file := range files {
			r, err := readReport(file)
			if err != nil {
				return err
			}
			name := filepath.Base(filepath.Dir(filepath.Dir(file)))
			reports[name] = r.over(reports[name])
		}
	}
	var failed error
	for name, r := range reports {
		err := r.complete()
		if err == nil {
			r.Commit = commit
			err = r.write(filepath.Join(into, name+".json"))
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("kernel %s: %w", name, err))
		}
	}
	return failed
}

// over adds the cases of an earlier report that this one does not have, in their order.
func (r *Report) over(earlier *Report) *Report {
	if earlier == nil {
		return r
	}
	all := *r
	all.Cases = nil
	for _, c := range cases() {
		for _, report := range []*Report{r, earlier} {
			if i := slices.IndexFunc(report.Cases, func(is Case) bool { return is.Name == c.name }); i >= 0 {
				all.Cases = append(all.Cases, report.Cases[i])
				break
			}
		}
	}
	return &all
}

// complete returns an error if the run ended before its last case, or was restricted to a part of the cases.
func (r *Report) complete() error {
	for _, c := range cases() {
		if !slices.ContainsFunc(r.Cases, func(is Case) bool { return is.Name == c.name }) {
			return fmt.Errorf("case %s was not run: results of all are needed", c.name)
		}
	}
	return nil
}

// load reads the kept reports, in the order of the kernels' versions.
func load(dir string) (all []kernelReport, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("read %s: %w: make test-programs-all writes reports", dir, fs.ErrNotExist)
	}
	for _, file := range files {
		r, err := readReport(file)
		if err != nil {
			return nil, err
		}
		all = append(all, kernelReport{strings.TrimSuffix(filepath.Base(file), ".json"), r})
	}
	slices.SortFunc(all, func(a, b kernelReport) int { return byVersion(a.name, b.name) })
	return all, nil
}

// byVersion sorts 6.1 before 6.12, and 6.12 before 7.
func byVersion(a, b string) int {
	var x, y [2]int
	_, _ = fmt.Sscanf(a, "%d.%d", &x[0], &x[1]) // missing parts are 0
	_, _ = fmt.Sscanf(b, "%d.%d", &y[0], &y[1])
	return slices.Compare(x[:], y[:])
}
