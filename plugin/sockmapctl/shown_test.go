// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/docs"
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

// runPreparations holds the values of flags against what is allowed.
func runPreparations(cmd *cobra.Command) error {
	if cmd.PreRunE == nil {
		return nil
	}
	return cmd.PreRunE(cmd, nil)
}

// synopsis are words that stand for what the reader puts there: a usage line shows forms and not a command. Neither
// does the sentence with which the long text begins.
func synopsis(words []string) bool {
	return strings.HasPrefix(rootLong, "sockmapctl "+strings.Join(words, " ")) || strings.ContainsAny(strings.Join(words, " "), "[]{}|…") && !strings.Contains(strings.Join(words, " "), `{"`)
}

func TestEveryCommandThatIsShownParses(t *testing.T) {
	files, err := docs.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range files {
		for _, words := range f.Commands("sockmapctl") {
			if synopsis(words) {
				continue
			}
			seen++
			if err := parses(words); err != nil {
				t.Errorf("%s: sockmapctl %s: %v", f.Path, strings.Join(words, " "), err)
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d commands were looked at", seen)
	}
}

func TestWhatDoesNotParseIsFound(t *testing.T) {
	for _, words := range [][]string{{"statsu"}, {"status", "--colour"}, {"status", "-o", "yaml"}, {"gc", "now"}, {"load", "--max-sockets", "0"}} {
		if err := parses(words); err == nil {
			t.Errorf("%s parses", fmt.Sprint(words))
		}
	}
}
