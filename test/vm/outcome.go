// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

// outcome is the result of one guest.
type outcome struct {
	Kernel   string        `json:"kernel"`  // name in the list
	Version  string        `json:"version"` // version of the kernel's package
	Release  string        `json:"release"` // release that the guest reports; empty when it did not boot
	Boot     time.Duration `json:"boot"`    // time from power on to the first frame
	Took     time.Duration `json:"took"`
	Date     string        `json:"date"`              // date of the run, YEAR-MONTH-DAY
	Commit   string        `json:"commit"`            // commit of the repository
	Passed   bool          `json:"passed"`            // there was no error at all
	Retried  string        `json:"retried,omitempty"` // why it was booted a second time
	Programs []*result     `json:"programs"`
	Troubles []string      `json:"troubles,omitempty"` // trouble in the kernel's messages
	Problems []string      `json:"problems,omitempty"` // of the guest itself, and differences to kernels.txt
	Facts    facts         `json:"facts"`

	begin    time.Time
	dir      string
	progress func(format string, args ...any)
	log      strings.Builder // the kernel's log
	console  string
	finished bool
}

// result is the result of one program.
type result struct {
	Name   string        `json:"name"`
	Status *frame.Status `json:"status"` // nil: it did not end
	Tests  *tests        `json:"tests,omitempty"`
	Counts *counts       `json:"counts,omitempty"` // numbers of tests, where their names are not kept
	Files  []string      `json:"files,omitempty"`  // paths below the program's directory of results
	// Summary is the first line of the program's summary file.
	Summary string `json:"summary,omitempty"`

	output strings.Builder
}

func newOutcome(m machine, progress func(format string, args ...any)) *outcome {
	return &outcome{Kernel: m.kernel.Name, Version: m.kernel.Version, begin: time.Now(), dir: m.results,
		progress: progress}
}

// OK reports whether there was no error at all.
func (o *outcome) OK() bool {
	for _, r := range o.Programs {
		if !r.OK() {
			return false
		}
	}
	return o.finished && len(o.Troubles)+len(o.Problems) == 0
}

// OK reports whether the program and all its tests succeeded.
func (r *result) OK() bool {
	return r.Status != nil && r.Status.OK() && (r.Tests == nil || r.Tests.ok())
}

func (o *outcome) problem(format string, args ...any) {
	o.Problems = append(o.Problems, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// running describes what the guest was doing at its last frame.
func (o *outcome) running() string {
	if n := len(o.Programs); n > 0 && o.Programs[n-1].Status == nil {
		return o.Programs[n-1].Name
	}
	return "init"
}

// collect reads frames until the guest is off. It calls booted at the first one.
func (o *outcome) collect(in *frame.Reader, booted func()) error {
	defer func() { o.Took = time.Since(o.begin) }()
	for {
		f, err := in.Next()
		if err != nil {
			if n := in.Damaged(); n > 0 {
				o.problem("%d frames of the guest were damaged or lost", n)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := o.take(f, booted); err != nil {
			o.problem("%v", err)
		}
	}
}

func (o *outcome) take(f frame.Frame, booted func()) error {
	switch f.Kind {
	case frame.Hello:
		booted()
		o.Release, o.Boot = f.Text, time.Since(o.begin)
		o.progress("booted %s in %.1f s", o.Release, o.Boot.Seconds())
	case frame.Start:
		o.Programs = append(o.Programs, &result{Name: f.Program})
	case frame.Kernel:
		o.log.WriteString(f.Text + "\n")
		return appendTo(filepath.Join(o.dir, "kernel.log"), []byte(f.Text+"\n"))
	case frame.Problem:
		o.problem("init: %s", f.Text)
	case frame.Bye:
		o.finished = true
	default:
		return o.takeFrom(f)
	}
	return nil
}

// takeFrom handles a frame of the program that runs.
func (o *outcome) takeFrom(f frame.Frame) error {
	if o.running() != f.Program {
		return fmt.Errorf("take frame %d (%s): %q is not running", f.Seq, f.Kind, f.Program)
	}
	r := o.Programs[len(o.Programs)-1]
	switch f.Kind {
	case frame.Output:
		r.output.Write(f.Data)
		return appendTo(filepath.Join(o.dir, r.Name+".log"), f.Data)
	case frame.File:
		return o.takeFile(r, f)
	case frame.Exit:
		r.Status, r.Summary = f.Status, o.summary(r)
		o.progress("%s: %v after %.1f s", r.Name, r.Status, r.Status.Took.Seconds())
	}
	return nil
}

// takeFile appends to a file of the program's directory of results. A file begins with a frame without data.
func (o *outcome) takeFile(r *result, f frame.Frame) error {
	if !filepath.IsLocal(f.Path) {
		return fmt.Errorf("take file %q of %s: outside its directory", f.Path, r.Name)
	}
	path := filepath.Join(o.dir, r.Name, f.Path)
	if len(f.Data) == 0 {
		r.Files = append(r.Files, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, nil, 0o644)
	}
	return appendTo(path, f.Data)
}

// summary is the first line of the program's summary, or empty where it has left none.
func (o *outcome) summary(r *result) string {
	text, err := os.ReadFile(filepath.Join(o.dir, r.Name, frame.SummaryFile))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// appendTo writes immediately, so that a log can be watched while it grows.
func appendTo(file string, data []byte) error {
	out, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return errors.Join(err, out.Close())
}

// readConsole looks for trouble in the kernel's messages, in the log and on the console: a panic is only on
// the console.
func (o *outcome) readConsole(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		o.problem("read console: %v", err)
	}
	o.console = strings.ReplaceAll(string(data), "\r", "")
	o.Troubles = troubles(o.log.String(), o.console)
}
