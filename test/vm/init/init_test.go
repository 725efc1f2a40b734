// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
)

func TestKernelRecordsLookAsInDmesg(t *testing.T) {
	for raw, want := range map[string]string{
		"6,339,5140900,-;NET: Registered\n":                "[    5.140900] NET: Registered",
		"4,1,12,c;WARNING: a;b\n SUBSYSTEM=net\n DEVICE=n": "[    0.000012] WARNING: a;b",
		"no head\n":        "no head",
		"6,x;short head\n": "short head",
		"6,1,x,-;no time":  "no time",
	} {
		if got := record(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

// run runs a command as init does.
func run(limit time.Duration, words ...string) frame.Status {
	cmd := exec.Command(words[0], words[1:]...)
	// Not a file: init's output is a stream, which a child that is left running keeps open.
	cmd.Stdout = new(bytes.Buffer)
	cmd.WaitDelay = 100 * time.Millisecond
	return guest{}.wait(cmd, limit)
}

func TestStatusOfAProgramIsHowItEnded(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration
		words []string
		check func(s frame.Status) bool
	}{
		{"well", time.Minute, []string{"true"}, frame.Status.OK},
		{"with an error", time.Minute, []string{"sh", "-c", "exit 3"},
			func(s frame.Status) bool { return s.Code == 3 && !s.TimedOut }},
		{"by a signal", time.Minute, []string{"sh", "-c", "kill -9 $$"},
			func(s frame.Status) bool { return s.Signal == "killed" }},
		{"at its limit", 50 * time.Millisecond, []string{"sleep", "60"},
			func(s frame.Status) bool { return s.TimedOut && s.Signal == "quit" }},
		{"never begun", time.Minute, []string{"/does/not/exist"},
			func(s frame.Status) bool { return s.Error != "" && !s.OK() }},
		{"leaving a child with its output", time.Minute, []string{"sh", "-c", "sleep 2 & exit 0"}, frame.Status.OK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			if s := run(tt.limit, tt.words...); !tt.check(s) {
				t.Errorf("%+v", s)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestResultFilesAreSent(t *testing.T) {
	dir := t.TempDir()
	big := strings.Repeat("x", 3*frame.MaxData)
	want := map[string]string{"a.json": "{}", "sub/big": big, "empty": ""}
	for name, text := range want {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// An entry that is no regular file has no bytes to send.
	if err := os.Symlink("a.json", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := (guest{frame.NewWriter(&line)}).sendFiles("p", dir); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for in := frame.NewReader(&line); ; {
		f, err := in.Next()
		if err != nil {
			break
		}
		got[f.Path] += string(f.Data)
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: %d bytes, want %d", name, len(got[name]), len(text))
		}
	}
}
