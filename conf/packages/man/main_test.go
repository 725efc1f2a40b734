// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const commands = `{"program": "prog", "version": "v1", "command": {"name": "prog", "path": "prog", "use": "prog [flags]", "short": "root",
 "long": "The root.", "examples": ["prog sub"], "flags": [{"name": "dir", "value": "DIR", "type": "string", "default": "/x", "usage": "DIR of state"}],
 "commands": [{"name": "sub", "path": "prog sub", "use": "prog sub [POD...]", "short": "sub", "long": "Below it.", "examples": ["prog sub a", "prog sub b"],
  "flags": [{"name": "all", "shorthand": "a", "type": "bool", "default": "false", "alone": "true", "usage": "everything"}],
  "inheritedFlags": [{"name": "dir", "value": "DIR", "type": "string", "default": "/x", "usage": "DIR of state"}]}]}}`

func TestPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man8")
	if err := write(strings.NewReader(commands), dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "prog-sub.8"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`.TH "PROG-SUB" "8" "Jan 1970" "sockmap-cni v1" "prog"`, "prog sub [POD...]", "Below it.",
		`\fB-a\fP, \fB--all\fP[=false]`,
		".SH OPTIONS INHERITED FROM PARENT COMMANDS", `\fB--dir\fP="/x"`, "prog sub b", `\fBprog(8)\fP`,
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "prog.8")); err != nil {
		t.Error(err)
	}
}

func TestInvalidCommandTreeIsRefused(t *testing.T) {
	for in, want := range map[string]string{"": "read the commands: EOF", "{}": "there are none",
		"sockmapctl": "invalid character"} {
		if err := write(strings.NewReader(in), t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
