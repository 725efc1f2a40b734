// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestTheTreeHasEveryCommandAndTheShellCompletesIt(t *testing.T) {
	n := newTestNode(t)
	var tree treeView
	decode(t, n.ok(t, "docs", "tree"), &tree)
	listed := map[string]*commandView{}
	for _, c := range tree.Command.Commands {
		listed[c.Name] = c
	}
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	words := n.run(t, "__complete", "").stdout
	for _, cmd := range root.Commands() {
		c := listed[cmd.Name()]
		if cmd.Hidden {
			if c != nil {
				t.Errorf("%s is hidden and in the tree", cmd.Name())
			}
			continue
		}
		if c == nil || c.Use == "" || c.Short == "" || c.Long == "" || c.Group == "" || len(c.Examples) == 0 {
			t.Errorf("%s: %+v", cmd.Name(), c)
			continue
		}
		for _, f := range c.Flags {
			if f.Usage == "" || f.Type == "" {
				t.Errorf("%s --%s: %+v", cmd.Name(), f.Name, f)
			}
		}
		if !strings.Contains(words, cmd.Name()+"\t"+cmd.Short) {
			t.Errorf("the shell does not complete %s", cmd.Name())
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := n.ok(t, "completion", shell); !strings.Contains(out, "sockmapctl") {
			t.Errorf("completion of %s: %q", shell, out)
		}
	}
}

// The image of the agent is built with the tag lean, without the parts that only people at a terminal need.
func TestALeanBuildLinksNoTerminalView(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-tags", "lean", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, out)
	}
	for dep := range strings.Lines(string(out)) {
		for _, unwanted := range []string{"charm.land/", "charmbracelet/", "cobra/doc", "go-md2man"} {
			if strings.Contains(dep, unwanted) {
				t.Errorf("a lean build links %s", dep)
			}
		}
	}
	if out, err := exec.Command("go", "vet", "-tags", "lean", ".").CombinedOutput(); err != nil {
		t.Errorf("go vet: %v: %s", err, out)
	}
}
