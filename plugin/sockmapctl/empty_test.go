// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// blanks are values that a variable leaves which is not set.
var blanks = []string{"", " ", "\t", ",", " , ", ",,"}

// Every flag of every command that takes text refuses an empty value, unless its usage says what that means.
// Every command refuses an empty argument. Nothing runs.
func TestEmptyValuesAreWrongUsage(t *testing.T) {
	seen := 0
	refused := func(name string, args ...string) {
		t.Helper()
		seen++
		if err := parses(args); err == nil || !strings.Contains(err.Error(), name) ||
			!strings.Contains(err.Error(), "empty") {
			t.Errorf("%q: %v, want that %s is empty", args, err, name)
		}
	}
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	for _, cmd := range root.Commands() {
		refused("argument 1", cmd.Name(), "")
		refused("argument 2", cmd.Name(), "x", " ")
		flags := cmd.Flags()
		flags.AddFlagSet(root.PersistentFlags())
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() != "string" && f.Value.Type() != "stringSlice" {
				return
			}
			if strings.Contains(f.Usage, "empty: ") {
				if err := f.Value.Set(""); err != nil {
					t.Errorf("%s --%s \"\": %v", cmd.CommandPath(), f.Name, err)
				}
				return
			}
			flag := "--" + f.Name
			for _, value := range blanks {
				if f.Value.Type() == "stringSlice" || strings.TrimSpace(value) == "" {
					refused(flag, cmd.Name(), flag, value)
				}
			}
			if f.Value.Type() == "stringSlice" {
				refused(flag, cmd.Name(), flag, "80", flag, "")
				refused(flag, cmd.Name(), flag, "80,", flag+"=81")
				refused(flag, cmd.Name(), flag, "!")
			}
			if f.Shorthand != "" {
				refused(flag, cmd.Name(), "-"+f.Shorthand, "")
			}
		})
	}
	if seen < 200 {
		t.Errorf("only %d command lines were tried", seen)
	}
}

// Nothing has happened after commands that would act on everything without their selection.
func TestAnEmptySelectionDoesNotMeanEverything(t *testing.T) {
	n, _ := podNode(t)
	var attachments []attachmentView
	n.read(t, &attachments, "attachments")
	noteAvoided(t, n, attachments[0].NetNSCookie, 80)
	n.ok(t, "disable", "--port", "5432")
	for _, args := range [][]string{
		{"disable", "-n", ""}, {"disable", "--port", ""}, {"disable", ""}, {"enable", "-n", ""}, {"enable", ""},
		{"forget", "--pod", ""}, {"forget", "--pod", "!"}, {"detach", "--cgroup", ""}, {"adopt", ""},
		{"explain", "--pid", "0", "--fd", "3"},
	} {
		if r := n.run(t, args...); r.code != exitUsage || r.stdout != "" {
			t.Errorf("%q: exit code %d, %s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	var avoided []avoidedView
	n.read(t, &avoided, "avoided")
	var status statusView
	n.read(t, &status, "status")
	if len(avoided) != 1 || status.Node == nil || !status.Node.Enabled || len(status.Node.Switches) != 1 {
		t.Errorf("entries of avoided: %+v, node: %+v", avoided, status.Node)
	}
}

func TestFlagsThatMayBeEmptySayWhatThatMeans(t *testing.T) {
	root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
	all := append([]*cobra.Command{root}, root.Commands()...)
	for _, cmd := range all {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			_, may := f.Annotations[emptyMeans]
			if says := strings.Contains(f.Usage, "empty: "); may != says {
				t.Errorf("%s --%s may be empty: %v; its usage says so: %v", cmd.CommandPath(), f.Name, may, says)
			}
		})
	}
	if !slices.ContainsFunc(all, func(c *cobra.Command) bool { return c.Flags().Lookup("guards") != nil }) {
		t.Error("no command has --guards")
	}
}
