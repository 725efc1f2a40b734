// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// parses asks cobra whether these words are a command line: command, flags and their values. Nothing runs.
func parses(words []string) error {
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	for i, word := range rest {
		if word == installedFile {
			rest[i] = defaultFile // what packages put there
		}
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return runPreparations(cmd)
}

// runPreparations checks the values of flags.
func runPreparations(cmd *cobra.Command) error {
	if cmd.PreRunE == nil {
		return nil
	}
	return cmd.PreRunE(cmd, nil)
}

// synopsis reports whether words are no command line: a usage line has placeholders, and the first sentence
// of the long text begins with the name of the program.
func synopsis(words []string) bool {
	return strings.HasPrefix(rootLong, "sockmapctl "+strings.Join(words, " ")) ||
		strings.ContainsAny(strings.Join(words, " "), "[]{}|…") && !strings.Contains(strings.Join(words, " "), `{"`)
}

// shownCommands returns every command line of sockmapctl that the documentation shows. A program of the
// module test/docs reads the Markdown.
func shownCommands(t *testing.T) (lines []shownLine) {
	t.Helper()
	cmd := exec.Command("go", "-C", "../../test/docs", "run", "./shown", "sockmapctl")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	for raw := range bytes.Lines(out) {
		var line shownLine
		if err := json.Unmarshal(raw, &line); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		lines = append(lines, line)
	}
	return lines
}

type shownLine struct {
	Path  string
	Words []string
}

func TestEveryCommandThatIsShownParses(t *testing.T) {
	seen := 0
	for _, line := range shownCommands(t) {
		if synopsis(line.Words) {
			continue
		}
		seen++
		if err := parses(line.Words); err != nil {
			t.Errorf("%s: sockmapctl %s: %v", line.Path, strings.Join(line.Words, " "), err)
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands were looked at", seen)
	}
}

func TestCommandsThatDoNotParseAreFound(t *testing.T) {
	for _, words := range [][]string{{"statsu"}, {"status", "--colour"}, {"status", "-o", "xml"}, {"gc", "now"},
		{"load", "--max-sockets", "0"}} {
		if err := parses(words); err == nil {
			t.Errorf("%s parses", fmt.Sprint(words))
		}
	}
}
