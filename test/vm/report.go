// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// report lists for each kernel how many tests passed, failed and were skipped, with the output of the failed
// ones. Its last lines name the failures and the sums, because often only the end of a long run's output is
// kept.
func report(w io.Writer, outcomes []*outcome) {
	var passed, failed, skipped int
	var names []string
	for _, o := range outcomes {
		reportKernel(w, o)
		for _, r := range o.Programs {
			p, f, s := r.count()
			passed, failed, skipped = passed+p, failed+f, skipped+s
		}
		// A kernel that reports trouble, or a guest that dies, has failed even if every test passed.
		failed += len(o.Troubles) + len(o.Problems)
		names = append(names, o.failures()...)
	}
	if len(names) > 0 {
		fmt.Fprintf(w, "\nfailed: %s\n", strings.Join(names, "\n        "))
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", passed, failed, skipped)
}

// failures lists the failures under one kernel, one per line: the kernel, the program, the test, and the
// reason if it fits on the line.
func (o *outcome) failures() (lines []string) {
	for _, r := range o.Programs {
		if r.OK() {
			continue
		}
		var tests []string
		if r.Tests != nil {
			tests = slices.Concat(r.Tests.Failed, r.Tests.Unfinished)
		}
		for _, name := range tests {
			lines = append(lines, fmt.Sprintf("kernel %s, %s, %s: %s", o.Kernel, r.Name, name, r.Tests.reason(name)))
		}
		if len(tests) == 0 {
			lines = append(lines, fmt.Sprintf("kernel %s, %s: %s", o.Kernel, r.Name, lastLine(r.output.String())))
		}
	}
	for _, t := range slices.Concat(o.Troubles, o.Problems) {
		first, _, _ := strings.Cut(t, "\n")
		lines = append(lines, fmt.Sprintf("kernel %s: %s", o.Kernel, first))
	}
	return lines
}

// reason is the last line that a failed test printed.
func (t *tests) reason(name string) string {
	return cmp.Or(t.Reasons[name], "it printed nothing")
}

// lastLine is the last line of a text that is not empty.
func lastLine(text string) string {
	text = strings.TrimSpace(strings.ReplaceAll(text, "\x16", ""))
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func reportKernel(w io.Writer, o *outcome) {
	fmt.Fprintf(w, "\nkernel %s (%s, package %s): ", o.Kernel, orNone(o.Release), o.Version)
	fmt.Fprintf(w, "booted in %.1f s, %.1f s in all\n", o.Boot.Seconds(), o.Took.Seconds())
	if o.Retried != "" {
		fmt.Fprintf(w, "  booted twice, because:\n%s\n", indent(o.Retried, 4))
	}
	for _, r := range o.Programs {
		p, f, s := r.count()
		fmt.Fprintf(w, "  %-20s %d passed, %d failed, %d skipped", r.Name, p, f, s)
		if r.Status != nil {
			fmt.Fprintf(w, " (%.1f s)", r.Status.Took.Seconds())
		}
		fmt.Fprintln(w)
		if r.Summary != "" {
			fmt.Fprintf(w, "    %s\n", r.Summary)
		}
		r.reportFailure(w)
	}
	for _, t := range o.Troubles {
		fmt.Fprintf(w, "  trouble in the kernel's messages:\n%s\n", indent(t, 4))
	}
	for _, p := range o.Problems {
		fmt.Fprintln(w, indent(p, 2))
	}
}

// count counts tests, or the program itself if it has none.
func (r *result) count() (passed, failed, skipped int) {
	switch {
	case r.Counts != nil:
		return r.Counts.Passed, r.Counts.Failed, r.Counts.Skipped
	case r.Tests == nil && r.OK():
		return 1, 0, 0
	case r.Tests == nil:
		return 0, 1, 0
	}
	passed, failed, skipped = len(r.Tests.Passed), len(r.Tests.Failed)+len(r.Tests.Unfinished),
		len(r.Tests.Skipped)
	if !r.OK() && failed == 0 {
		// It exited with an error that belongs to no test, or ran no test.
		failed = 1
	}
	return passed, failed, skipped
}

func (r *result) reportFailure(w io.Writer) {
	if r.Tests != nil && len(r.Tests.Skipped) > 0 {
		fmt.Fprintf(w, "    skipped: %s\n", strings.Join(r.Tests.Skipped, ", "))
	}
	if r.OK() {
		return
	}
	switch {
	case r.Status == nil:
		fmt.Fprintf(w, "    it did not end\n")
	case !r.Status.OK():
		fmt.Fprintf(w, "    %v\n", r.Status)
	}
	if r.Tests != nil && r.Tests.Output != "" {
		fmt.Fprintln(w, indent(r.Tests.Output, 4))
		return
	}
	fmt.Fprintln(w, indent(strings.ReplaceAll(r.output.String(), "\x16", ""), 4))
}

func orNone(s string) string {
	if s == "" {
		return "did not boot"
	}
	return s
}

func indent(text string, by int) string {
	pad := strings.Repeat(" ", by)
	return pad + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+pad)
}

// outcomeFile is in the directory of results of each kernel.
const outcomeFile = "outcome.json"

// save writes the outcome, for the documents.
func (o *outcome) save() error {
	data, err := json.MarshalIndent(o, "", "\t")
	if err != nil {
		return fmt.Errorf("encode outcome: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.dir, outcomeFile), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write outcome: %w", err)
	}
	return nil
}

// readOutcomes reads the outcomes that earlier runs have saved for the kernels of these names.
func readOutcomes(results string, names []string) (all []*outcome, err error) {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(results, name, outcomeFile))
		if err != nil {
			return nil, fmt.Errorf("find results of kernel %s: %w (make test-vm writes them)", name, err)
		}
		o := &outcome{}
		if err := json.Unmarshal(data, o); err != nil {
			return nil, fmt.Errorf("read results of kernel %s: %w", name, err)
		}
		all = append(all, o)
	}
	return all, nil
}
