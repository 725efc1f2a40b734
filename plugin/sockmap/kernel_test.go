// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

// reads reports whether programs may read this kernel's memory, according to its command line.
func reads(t *testing.T) bool {
	t.Helper()
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return !slices.Contains(strings.Fields(string(line)), "lockdown=confidentiality")
}

// On a hardened kernel, too, a container is accelerated, or it starts without acceleration and the log names
// what the kernel forbids. Kernels of test/vm are locked down, or have sysctls that limit programs.
func TestThisKernelAcceleratesOrTheReasonIsTrue(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	a := w.mustAdd(p, nil)
	said := doctor(t)
	if reads(t) {
		w.expectAccelerated(p)
		w.expectResting(false)
		summarize(t, "accelerated")
	} else {
		texts := []string{"locked down for confidentiality", "lockdown=integrity"}
		expectTexts(t, "the log", a.stderr, append(texts, "not accelerated", "kernel not supported")...)
		expectTexts(t, "doctor", said, texts...)
		for what, text := range map[string]string{"the log": a.stderr, "doctor": said} {
			if strings.Contains(text, "or newer") {
				t.Errorf("%s blames the kernel's version:\n%s", what, text)
			}
		}
		expectCode(t, w.add(p, keys{"required": true}), decline.Kernel.Code(), texts...)
		summarize(t, "declined, the container starts: locked down for confidentiality")
	}
	if a := run(t, env("DEL", p), w.conf(p, nil)); a.err != nil {
		t.Errorf("DEL: %v", a.err)
	}
	if reads(t) {
		w.expectResting(true)
		w.mustAdd(p, nil)
		w.expectAccelerated(p)
		w.expectResting(false)
	}
}

// expectResting checks all guards that this kernel accepts, except that for options, which belongs to a
// cgroup.
func (w *world) expectResting(want bool) {
	w.Helper()
	d, err := datapath.Open(w.node.BPFFS())
	if err != nil {
		w.Fatal(err)
	}
	defer d.Close()
	states, err := d.GuardStates()
	if err != nil {
		w.Fatal(err)
	}
	for _, g := range states {
		if g.Active && g.Name != datapath.GuardOptions && g.Resting != want {
			w.Errorf("want resting %v: %+v", want, g)
		}
	}
}

// doctor is the output of sockmapctl doctor for this kernel, whatever its exit status.
func doctor(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(labtest.Plugins(t), "sockmapctl"),
		"doctor").CombinedOutput()
	if len(out) == 0 {
		t.Errorf("sockmapctl doctor says nothing: %v", err)
	}
	return string(out)
}

// summarize prints one line for the tables of test/vm.
func summarize(t *testing.T, text string) {
	t.Helper()
	dir := os.Getenv("VM_OUT")
	if dir == "" || t.Failed() {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, frame.SummaryFile), []byte(text+"\n"), 0o600); err != nil {
		t.Error(err)
	}
}
