// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

func TestMain(m *testing.M) {
	for _, child := range children {
		child()
	}
	fixture.Main(m)
}

// smallest has the flags with which each measurement takes seconds. $OUT is the file for its results. stopped
// is not here: its own test measures with a hundred connections, and with fewer its bound is within the
// noise.
var smallest = map[string][]string{
	"micro":    {"-quick", "-rounds", "1", "-run", "^rr/64 B$", "-o", "$OUT"},
	"programs": {"-quick", "-rounds", "1", "-duration", "100ms", "-run", "^redis GET", "-o", "$OUT"},
	"scale":    {"-quick", "-rounds", "1", "-run", "^(scale/1k flows|add/alone)$", "-o", "$OUT"},
	"guards":   {"-rounds", "1", "-batches", "1", "-stats=false", "-json", "$OUT"},
	"tap":      {"-rounds", "1", "-messages", "100"},
}

func TestEachMeasurementRuns(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root is needed")
	}
	dir := t.TempDir()
	for _, c := range commands {
		flags, ok := smallest[c.name]
		if !ok {
			continue
		}
		path := filepath.Join(dir, c.name+".json")
		args := []string{c.name}
		for _, flag := range flags {
			args = append(args, strings.ReplaceAll(flag, "$OUT", path))
		}
		t.Run(c.name, func(t *testing.T) {
			text := printed(t, args...)
			if strings.Contains(text, "NaN") || strings.Count(text, "\n") < 3 {
				t.Errorf("the table has a number that is none, or no lines:\n%s", text)
			}
			switch c.name {
			case "tap": // it only prints
			case "guards":
				checkGuards(t, path)
			default:
				checkCells(t, path)
			}
		})
	}
	if t.Failed() {
		return
	}
	if err := os.Remove(filepath.Join(dir, "guards.json")); err != nil { // the report does not read it
		t.Fatal(err)
	}
	text := printed(t, "report", dir)
	for _, want := range []string{"64 B", "redis GET -c 1", "ADD alone", "1k flows"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

// printed runs bench and returns its standard output.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stdout")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stdout := os.Stdout
	os.Stdout = file
	err = run(context.Background(), args, file)
	os.Stdout = stdout
	text, read := os.ReadFile(path)
	if err != nil || read != nil {
		t.Fatalf("bench %s: %v, %v\n%s", strings.Join(args, " "), err, read, text)
	}
	return string(text)
}

// checkCells fails for results without cells, and for a cell without samples or without a result of sockmap.
func checkCells(t *testing.T, path string) {
	t.Helper()
	f, err := result.Read(path)
	if err != nil || len(f.Cells) == 0 {
		t.Fatalf("%s has %d cells, %v", path, len(f.Cells), err)
	}
	sockmap := false
	for _, c := range f.Cells {
		name := c.Group + "/" + c.Name + " " + c.Measure
		if c.Unit == "" || len(c.Samples) == 0 {
			t.Errorf("%s is empty: %+v", name, c)
		}
		for variant, samples := range c.Samples {
			if len(samples) == 0 {
				t.Errorf("%s: no samples of %s", name, variant)
			}
		}
		sockmap = sockmap || len(c.Samples[result.Sockmap]) > 0
	}
	if !sockmap {
		t.Errorf("%s has no result of sockmap", path)
	}
}

// checkGuards fails for a setup that lacks a call.
func checkGuards(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Calls   []string
		Columns []struct {
			Setup       string
			Nanoseconds map[string][]float64
		}
	}
	if err := json.Unmarshal(text, &report); err != nil || len(report.Calls) == 0 || len(report.Columns) < 2 {
		t.Fatalf("%v: %s", err, text)
	}
	for _, column := range report.Columns {
		for _, call := range report.Calls {
			if len(column.Nanoseconds[call]) == 0 {
				t.Errorf("setup %s has no time of %s", column.Setup, call)
			}
		}
	}
}

func TestEachCommandIsMeasuredOrTestedElsewhere(t *testing.T) {
	elsewhere := map[string]bool{"stopped": true, "instructions": true, "report": true}
	for _, c := range commands {
		if _, ok := smallest[c.name]; ok == elsewhere[c.name] {
			t.Errorf("%s: add its flags to smallest", c.name)
		}
	}
}

func TestHelpListsEachCommand(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"help"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if !strings.Contains(out.String(), "\n  "+c.name+" ") {
			t.Errorf("help lacks %s:\n%s", c.name, out.String())
		}
	}
}

func TestWrongCommandsAreRefused(t *testing.T) {
	for want, args := range map[string][]string{
		"no command is given": {}, `unknown command "micros" (see: bench help)`: {"micros"},
		"micro: -rounds -1": {"micro", "-rounds", "-1"}, "scale: arguments": {"scale", "quick"},
		"programs: arguments": {"programs", "x"},
		"guards: -rounds 0":   {"guards", "-rounds", "0"}, "tap: arguments": {"tap", "x"},
		"instructions: arguments": {"instructions"},
	} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("bench %v: %v, want %q", args, err, want)
		}
	}
}
