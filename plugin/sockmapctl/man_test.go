// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryCommandHasAManualPageAndCompletes(t *testing.T) {
	n := newTestNode(t)
	dir := filepath.Join(t.TempDir(), "man8")
	n.ok(t, "docs", "man", dir)
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	words := n.run(t, "__complete", "").stdout
	for _, cmd := range root.Commands() {
		page, err := os.ReadFile(filepath.Join(dir, "sockmapctl-"+cmd.Name()+".8"))
		if err != nil || !strings.Contains(string(page), ".SH EXAMPLE") {
			t.Errorf("%s: %v, %d bytes", cmd.Name(), err, len(page))
		}
		if !strings.Contains(words, cmd.Name()+"\t"+cmd.Short) {
			t.Errorf("the shell is not given %s", cmd.Name())
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := n.ok(t, "completion", shell); !strings.Contains(out, "sockmapctl") {
			t.Errorf("completion of %s: %q", shell, out)
		}
	}
	if r := n.run(t, "docs", "man"); r.code != exitUsage || !strings.Contains(r.stderr, "it takes one directory") {
		t.Errorf("%+v", r)
	}
}
