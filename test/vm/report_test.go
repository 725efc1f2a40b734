// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/report/summary"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// good is an outcome of one package of tests without an error.
func good() *outcome {
	return &outcome{
		Kernel: "6.1", Version: "6.1.176-1", Release: "6.1.0-50", finished: true,
		Programs: []*result{{
			Name: "datapath", Status: &frame.Status{Took: time.Second},
			Tests: &tests{Passed: []string{"TestA", "TestB"}, Skipped: []string{"TestC"}},
		}},
	}
}

func TestReportSaysWhatFailed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		edit   func(*outcome)
		ok     bool
		want   []string // in this order
		closes string
	}{
		{"nothing", func(*outcome) {}, true,
			[]string{"kernel 6.1 (6.1.0-50, package 6.1.176-1)", "2 passed, 0 failed, 1 skipped", "skipped: TestC"},
			"2 passed, 0 failed, 1 skipped"},
		{"a test", func(o *outcome) {
			o.Programs[0].Tests.Failed, o.Programs[0].Tests.Output = []string{"TestD"},
				"--- FAIL: TestD\n    five is not four\n"
			o.Programs[0].Tests.Reasons = map[string]string{"TestD": "five is not four"}
			o.Programs[0].Status.Code = 1
		}, false, []string{"2 passed, 1 failed", "exit status 1", "    --- FAIL: TestD\n        five is not four",
			"\nfailed: kernel 6.1, datapath, TestD: five is not four\n"}, "2 passed, 1 failed, 1 skipped"},
		{"the binary, without a test", func(o *outcome) {
			o.Programs[0].Status.Code = 66
			o.Programs[0].output.WriteString("\x16=== RUN\nDATA RACE")
		}, false, []string{"2 passed, 1 failed", "exit status 66", "    === RUN\n    DATA RACE",
			"\nfailed: kernel 6.1, datapath: DATA RACE\n"}, "2 passed, 1 failed, 1 skipped"},
		{"no test ran", func(o *outcome) { o.Programs[0].Tests = &tests{} }, false, []string{"0 passed, 1 failed"},
			"0 passed, 1 failed, 0 skipped"},
		{"the guest, amid a test", func(o *outcome) {
			o.Programs[0].Status, o.Programs[0].Tests.Unfinished, o.finished = nil, []string{"TestD"}, false
			o.problem("the guest ended early")
		}, false, []string{"2 passed, 1 failed", "it did not end", "the guest ended early"},
			"2 passed, 2 failed, 1 skipped"},
		{"the kernel only", func(o *outcome) { o.Troubles = []string{"BUG: x\n  y"} }, false,
			[]string{"trouble in the kernel's messages:\n    BUG: x\n      y", "\nfailed: kernel 6.1: BUG: x\n"},
			"2 passed, 1 failed, 1 skipped"},
		{"boot", func(o *outcome) {
			*o = outcome{Kernel: "7", Version: "7.3"}
			o.problem("the guest did not boot: silent for 1s")
		}, false, []string{"kernel 7 (did not boot, package 7.3)", "silent for 1s"},
			"0 passed, 1 failed, 0 skipped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := good()
			tt.edit(o)
			if o.OK() != tt.ok || (verdict([]*outcome{good(), o}) == nil) != tt.ok {
				t.Errorf("ok: %v", o.OK())
			}
			var b strings.Builder
			report(&b, []*outcome{o})
			rest := b.String()
			for _, text := range tt.want {
				_, after, found := strings.Cut(rest, text)
				if !found {
					t.Fatalf("%q is missing, or not after the texts before it:\n%s", text, b.String())
				}
				rest = after
			}
			if !strings.HasSuffix(b.String(), "\n"+tt.closes+"\n") {
				t.Errorf("the last line is not %q:\n%s", tt.closes, b.String())
			}
		})
	}
}

func TestTableReplacesOnlyItself(t *testing.T) {
	fine := good()
	fine.Programs = append(fine.Programs, &result{Name: "hazard", Status: &frame.Status{},
		Tests: &tests{Passed: []string{"TestP"}}})
	fine.Facts = facts{
		Hazards:     []finding{{"splice", "guarded", "severe"}, {"eagain", "present", "minor"}},
		Guards:      []guard{{"splice", true, "hook", ""}},
		Conformance: &summary.Counts{Cases: 9, Same: 2, Refused: 3, Lesser: 4, Bulk: "none"},
	}
	bad := good()
	bad.Kernel, bad.Version, bad.Troubles = "7", "7.3-1", []string{"BUG: x"}
	bad.Programs[0].Tests.Failed = []string{"TestD"}
	bad.Facts = facts{
		Hazards: []finding{{"splice", "accepted", "severe"}}, Guards: []guard{{"splice", false, "", "no"}},
		Open:        []string{"splice"},
		Conformance: &summary.Counts{Cases: 9, Fails: 1, Hangs: 2, Loses: 6, Bulk: "at least 95 %"},
	}
	dead := &outcome{Kernel: "8", Version: "8.0-1"}
	own := &outcome{Kernel: hostName, Version: "6.18"}
	file := filepath.Join(t.TempDir(), "KERNELS.md")
	before := "# Kernels\n" + section.Begin() + "| old |\n" + section.End() + "Text after.\n"
	if err := os.WriteFile(file, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	// Twice, like two runs.
	for range 2 {
		if err := section.Into(file, table([]*outcome{fine, bad, dead, own})); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Kernels\n" + section.Begin() + `|  | Debian 6.1.176-1 | Debian 7.3-1 | Debian 8.0-1 | 6.18 (host) |
|---|---|---|---|---|
| accelerated by default | **yes** | no: splice | **did not run** | **did not run** |
| hazard splice | guarded | **present** | not looked at | not looked at |
| hazard eagain | present (minor) | not looked at | not looked at | not looked at |
| guard splice | at ` + "`hook`" + ` | **refused by the kernel** | not looked at | not looked at |
| tests of the data path | 2 passed, 1 skipped | 2 passed, **1 failed**, 1 skipped | **did not run** | **did not run** |
| tests of the probes | 1 passed | **did not run** | **did not run** | **did not run** |
| conformance: cases | 9 | 9 | **did not run** | **did not run** |
| the same as on plain TCP | 2 | 0 | **did not run** | **did not run** |
| refused, so that programs fall back | 3 | 0 | **did not run** | **did not run** |
| differ, harmless or merely visible | 4 | 0 | **did not run** | **did not run** |
| a call fails | 0 | 1 | **did not run** | **did not run** |
| a program hangs | 0 | **2** | **did not run** | **did not run** |
| data is lost | 0 | **6** | **did not run** | **did not run** |
| not known why | 0 | 0 | **did not run** | **did not run** |
| bulk bytes redirected | none | at least 95 % | **did not run** | **did not run** |
| kernel's complaints | none | **1** | none | not looked at |
` + section.End() + "Text after.\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestSavedOutcomesAreReadBack(t *testing.T) {
	o, results := good(), t.TempDir()
	o.Facts.Open = []string{"splice"}
	if _, err := readOutcomes(results, []string{"6.1"}); err == nil ||
		!strings.Contains(err.Error(), "make test-vm") {
		t.Errorf("without results: %v", err)
	}
	if o.dir = filepath.Join(results, "6.1"); os.Mkdir(o.dir, 0o755) != nil || o.save() != nil {
		t.Fatal("it was not saved")
	}
	got, err := readOutcomes(results, []string{"6.1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(table([]*outcome{o}), table(got)); diff != "" {
		t.Error(diff)
	}
}

func TestKeptOutcomesAreInTheTable(t *testing.T) {
	w := []kernel.Wanted{
		{Name: "6.1", Often: true},
		{Name: "rt", Parameters: []string{"a=1", "b"}},
		{Name: "closed", Only: []string{"plugin"}},
		{Name: "new"},
	}
	ran := good()
	ran.Kernel, ran.Date, ran.Commit, ran.Passed = "rt", "2026-01-02", "abc", true
	ran.Programs = append(ran.Programs, &result{Name: "plugin", Status: &frame.Status{}, Summary: "accelerated"})
	ran.Facts = facts{
		Hazards: []finding{{"splice", "accepted", "severe"}, {"fin", "absent", "severe"}},
		Guards:  []guard{{"options", true, "hook", ""}},
		Open:    []string{"splice"}, Conformance: &summary.Counts{Cases: 9, Same: 2, Hangs: 1},
	}
	closed := &outcome{Kernel: "closed", Release: "6", Version: "6-1", Date: "2026-01-03", Commit: "def",
		Passed:   true,
		Programs: []*result{{Name: "plugin", Status: &frame.Status{}, Summary: "declined"}}}
	from, to := t.TempDir(), t.TempDir()
	for _, o := range []*outcome{ran, closed} {
		if o.dir = filepath.Join(from, o.Kernel); os.Mkdir(o.dir, 0o755) != nil || o.save() != nil {
			t.Fatal("it was not saved")
		}
		if err := keepOne(io.Discard, from, to, o.Kernel); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readKept(to, namesOf(w, false))
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(seldomTable(w, got), "|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	want := "| rt: 6.1.0-50, 6.1.176-1 | 2026-01-02, abc | `a=1 b` | accelerated | no: splice | splice | options | 2 passed, 1 skipped | " +
		"**did not run** | 2 of 9 | **1**, 0, 0 | none |\n" +
		"| closed: 6, 6-1 | 2026-01-03, def |  | declined | - | - | - | - | - | - | - | none |\n" +
		"| new | never |  | | | | | | | | | |\n"
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
}

func TestFailedRunIsNotKept(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	o := good()
	if o.dir = filepath.Join(from, o.Kernel); os.Mkdir(o.dir, 0o755) != nil || o.save() != nil {
		t.Fatal("it was not saved")
	}
	if err := keepOne(io.Discard, from, to, o.Kernel); err == nil ||
		!strings.Contains(err.Error(), "not everything passed") {
		t.Errorf("kept: %v", err)
	}
	if err := keepOne(io.Discard, from, to, "another"); err != nil {
		t.Errorf("one that did not run: %v", err)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestTableNeedsItsMarkers(t *testing.T) {
	for _, document := range []string{"", section.Begin(), section.End() + section.Begin()} {
		if text, err := section.Replace(document, "x"); err == nil {
			t.Errorf("%q became %q", document, text)
		}
	}
}
