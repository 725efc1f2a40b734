// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// row is the row of a runtime in docs/RUNTIMES.md.
type row struct {
	Runtime string   `json:"runtime"`
	Version string   `json:"version"`
	Cgroup  string   `json:"cgroup"` // the source of the pod's cgroup, as in the attachments
	Calls   []string `json:"calls"`  // CNI commands with which the plugin was called
	Result  string   `json:"result"`
}

// wanted are the facts of a report, in this order. The report is written only if all of them were seen.
var wanted = []string{"adopted", "annotations", "restart", "removed"}

// seen are the facts that the tests of this process have seen.
var seen struct {
	sync.Mutex
	facts   map[string]string
	sources []string
	calls   []string
}

// found stores a fact of a test that has passed so far, and the plugin's calls.
func (w *world) found(fact, format string, args ...any) {
	w.Helper()
	if w.Failed() {
		return
	}
	seen.Lock()
	defer seen.Unlock()
	if seen.facts == nil {
		seen.facts = map[string]string{}
	}
	seen.facts[fact] = fmt.Sprintf(format, args...)
	for _, call := range w.calls() {
		command, _, _ := strings.Cut(call, " ")
		if !slices.Contains(seen.calls, command) {
			seen.calls = append(seen.calls, command)
		}
	}
}

// foundSource stores the source of an accelerated pod's cgroup.
func foundSource(source string) {
	seen.Lock()
	defer seen.Unlock()
	if !slices.Contains(seen.sources, source) {
		seen.sources = append(seen.sources, source)
	}
}

func reportFile() string { return filepath.Join(tools.dir, "rows", "crio.json") }

// forgetReport removes the report of an earlier run.
func forgetReport() { _ = os.Remove(reportFile()) }

// writeReport writes the report, if all tests have run and passed.
func writeReport(code int) error {
	seen.Lock()
	defer seen.Unlock()
	var facts []string
	for _, name := range wanted {
		fact, ok := seen.facts[name]
		if !ok || code != 0 {
			return nil
		}
		facts = append(facts, fact)
	}
	version, err := versions()
	if err != nil {
		return err
	}
	slices.Sort(seen.sources)
	slices.Sort(seen.calls)
	text, err := json.MarshalIndent(row{
		Runtime: "CRI-O itself, pods adopted", Version: version, Cgroup: strings.Join(seen.sources, ", "),
		Calls: seen.calls, Result: strings.Join(facts, "; "),
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(reportFile()), 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := os.WriteFile(reportFile(), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// versions are the versions of CRI-O, conmon and runc, as they print them.
func versions() (string, error) {
	var said []string
	var errs []error
	for _, program := range []string{filepath.Join(tools.dir, "crio"), tools.conmon, tools.runc} {
		out, err := exec.Command(program, "--version").Output()
		first, _, _ := strings.Cut(string(out), "\n")
		said, errs = append(said, strings.Replace(first, " version ", " ", 1)), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("read the versions: %w", err)
	}
	return strings.Join(said, ", "), nil
}
