// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// outputOf builds and runs the tests of testdata/failing here, as the guest would.
func outputOf(t *testing.T, args ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "failing")
	if out, err := exec.Command("go", "test", "-c", "-o", binary,
		"./testdata/failing").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, _ := exec.Command(binary, append([]string{"-test.v=test2json"}, args...)...).CombinedOutput()
	return string(out)
}

func TestOutputOfTestsIsCounted(t *testing.T) {
	output := outputOf(t)
	got, err := parseTests("failing", output)
	if err != nil {
		t.Fatal(err)
	}
	want := &tests{
		Passed:     []string{"TestPasses", "TestPasses/one", "TestPasses/two", "TestFails/beside"},
		Failed:     []string{"TestFails", "TestFails/inside"},
		Skipped:    []string{"TestSkips"},
		Unfinished: []string{"TestDies"}, // a panic is the end of the binary, not of the test
	}
	printed, reasons := got.Output, got.Reasons
	got.Output, got.Reasons = "", nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"five is not four", "about to die", "the end of the binary",
		"--- FAIL: TestFails/inside"} {
		if !strings.Contains(printed, text) {
			t.Errorf("the output of the failed tests lacks %q:\n%s", text, printed)
		}
	}
	if !strings.HasSuffix(reasons["TestFails/inside"], "five is not four") {
		t.Errorf("why TestFails/inside failed: %q", reasons["TestFails/inside"])
	}
	if strings.Contains(printed, "fine") || got.ok() {
		t.Errorf("ok is %v, output:\n%s", got.ok(), printed)
	}
}

// The guest died in the middle: no output came after the test had begun.
func TestATestWithoutEndIsUnfinished(t *testing.T) {
	output := outputOf(t)
	at := strings.Index(output, "about to die")
	got, err := parseTests("failing", output[:at+len("about to die")])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"TestDies"}, got.Unfinished); diff != "" || got.ok() {
		t.Errorf("unfinished (ok is %v):\n%s", got.ok(), diff)
	}
	if !strings.Contains(got.Output, "about to die") {
		t.Errorf("its output is missing: %q", got.Output)
	}
}

func TestABinaryThatRunsNoTestIsNotOK(t *testing.T) {
	got, err := parseTests("failing", outputOf(t, "-test.run=^$"))
	if err != nil || got.ok() {
		t.Errorf("%+v, %v", got, err)
	}
}
