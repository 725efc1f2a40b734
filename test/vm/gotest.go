// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// tests are the results of a Go test binary's tests and subtests, each list in the order in which they began.
type tests struct {
	Passed     []string `json:"passed"`
	Failed     []string `json:"failed,omitempty"`
	Skipped    []string `json:"skipped,omitempty"`
	Unfinished []string `json:"unfinished,omitempty"` // neither: the binary or the guest died
	// The output of the failed and the unfinished tests, by name.
	Output string `json:"output,omitempty"`
	// The last line that each of these tests printed, by name.
	Reasons map[string]string `json:"reasons,omitempty"`
}

func (t *tests) ok() bool {
	return len(t.Failed)+len(t.Unfinished) == 0 && len(t.Passed) > 0
}

// parseTests reads the output of a test binary with -test.v=test2json. The go command parses it.
func parseTests(name, output string) (*tests, error) {
	cmd := exec.Command("go", "tool", "test2json", "-p", name)
	cmd.Stdin = strings.NewReader(output)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	events, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("read test output of %s: %w: %s", name, err, stderr.String())
	}
	return countTests(bytes.NewReader(events))
}

// event is one line of test2json.
type event struct {
	Action, Test, Output string
}

func countTests(r io.Reader) (*tests, error) {
	t := &tests{}
	var order []string
	ended, printed := map[string]string{}, map[string]string{}
	for d := json.NewDecoder(r); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read test events: %w", err)
		}
		switch {
		case e.Action == "output":
			printed[e.Test] += e.Output
		case e.Test == "" || strings.HasPrefix(e.Test, "Benchmark"):
		case e.Action == "run":
			order = append(order, e.Test)
		case slices.Contains([]string{"pass", "fail", "skip"}, e.Action):
			ended[e.Test] = e.Action
		}
	}
	var text strings.Builder
	t.Reasons = map[string]string{}
	for _, name := range order {
		switch ended[name] {
		case "pass":
			t.Passed = append(t.Passed, name)
		case "skip":
			t.Skipped = append(t.Skipped, name)
		case "fail":
			t.Failed = append(t.Failed, name)
			text.WriteString(printed[name])
			t.Reasons[name] = saidLast(printed[name])
		default:
			t.Unfinished = append(t.Unfinished, name)
			text.WriteString(printed[name])
			t.Reasons[name] = saidLast(printed[name])
		}
	}
	t.Output = text.String()
	return t, nil
}

// saidLast is the last line of a test's output that the test printed itself, not package testing.
func saidLast(output string) string {
	for _, line := range slices.Backward(strings.Split(output, "\n")) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return ""
}
