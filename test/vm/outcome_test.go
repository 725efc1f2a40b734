// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// said makes the outcome of a guest that sent these frames. text is put before each on its line.
func said(t *testing.T, text string, all ...frame.Frame) *outcome {
	t.Helper()
	var line bytes.Buffer
	w := frame.NewWriter(&line)
	for _, f := range all {
		line.WriteString(text)
		if err := w.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	m := machine{kernel: kernel.Kernel{Wanted: kernel.Wanted{Name: "6.1"}}, results: t.TempDir()}
	o := newOutcome(m, t.Logf)
	if err := o.collect(frame.NewReader(&line), func() {}); err != nil {
		t.Fatal(err)
	}
	return o
}

var (
	hello  = frame.Frame{Kind: frame.Hello, Text: "6.1.0"}
	start  = frame.Frame{Kind: frame.Start, Program: "p"}
	exited = frame.Frame{Kind: frame.Exit, Program: "p", Status: &frame.Status{}}
	bye    = frame.Frame{Kind: frame.Bye}
)

func output(text string) frame.Frame {
	return frame.Frame{Kind: frame.Output, Program: "p", Data: []byte(text)}
}

func file(path, text string) frame.Frame {
	return frame.Frame{Kind: frame.File, Program: "p", Path: path, Data: []byte(text)}
}

func TestOutputAndFilesArriveWhole(t *testing.T) {
	o := said(t, "[ 1.0] random: crng init done\r", hello, start, output("one\n"), output("two\n"),
		file("sub/a.json", ""), file("sub/a.json", "{"), file("sub/a.json", "}"), file("empty", ""),
		file("summary.txt", ""), file("summary.txt", "2 of 3\nmore\n"), exited, bye)
	if !o.OK() || o.Release != "6.1.0" {
		t.Fatalf("%+v", o)
	}
	r := o.Programs[0]
	if got := r.output.String(); got != "one\ntwo\n" {
		t.Errorf("output %q", got)
	}
	if diff := cmp.Diff([]string{"sub/a.json", "empty", "summary.txt"}, r.Files); diff != "" ||
		r.Summary != "2 of 3" {
		t.Errorf("summary %q, files:\n%s", r.Summary, diff)
	}
	for path, want := range map[string]string{"sub/a.json": "{}", "empty": ""} {
		if data, err := os.ReadFile(filepath.Join(o.dir, "p", path)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
}

func TestForbiddenFramesAreProblems(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames []frame.Frame
		want   string
	}{
		{"a file outside its directory", []frame.Frame{hello, start, file("../../escape", ""), exited, bye},
			"outside its directory"},
		{"output of no program", []frame.Frame{hello, output("x"), bye}, "not running"},
		{"init's own trouble", []frame.Frame{hello, {Kind: frame.Problem, Text: "load module x: no"}, bye},
			"init: load module x: no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := said(t, "", tt.frames...)
			if o.OK() || !strings.Contains(strings.Join(o.Problems, "\n"), tt.want) {
				t.Errorf("ok %v, problems %q", o.OK(), o.Problems)
			}
		})
	}
}

func TestAGuestThatEndsEarlyIsNotOK(t *testing.T) {
	o := said(t, "", hello, start, output("x"))
	if o.OK() || o.finished || o.running() != "p" {
		t.Errorf("%+v, running %q", o, o.running())
	}
	if o := said(t, "", hello, start, exited); o.OK() || o.running() != "init" {
		t.Errorf("without a farewell: %+v", o)
	}
}

func TestALostFrameIsAProblem(t *testing.T) {
	var line bytes.Buffer
	w := frame.NewWriter(&line)
	for _, f := range []frame.Frame{hello, start, output("x"), exited, bye} {
		at := line.Len()
		if err := w.Send(f); err != nil {
			t.Fatal(err)
		}
		if f.Kind == frame.Output {
			line.Bytes()[at+20] ^= 1
		}
	}
	o := newOutcome(machine{results: t.TempDir()}, t.Logf)
	if err := o.collect(frame.NewReader(&line), func() {}); err != nil {
		t.Fatal(err)
	}
	if o.OK() || len(o.Problems) != 1 {
		t.Errorf("ok %v, problems %q", o.OK(), o.Problems)
	}
}
