// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// mostEdits is the number of changed letters up to which a misspelt name has a suggestion.
const mostEdits = 2

// suggestions are the commands below cmd that typed may mean: the nearest one, if it is near enough to be
// meant for sure.
func suggestions(cmd *cobra.Command, typed string) []string {
	if isBlank(typed) {
		return nil // it is the beginning of all
	}
	cmd.SuggestionsMinimumDistance = mostEdits
	names := slices.DeleteFunc(cmd.SuggestionsFor(typed), func(name string) bool {
		// Two edits turn any two letters into any others.
		return len(name) <= mostEdits && !strings.HasPrefix(name, typed)
	})
	if near := cniconf.Nearest(typed, names); near != "" {
		return []string{near}
	}
	return names
}

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return orRather(fmt.Errorf("unknown command %q", args[0]), "", suggestions(cmd, args[0]))
}

// unknownFlag adds to the error about a flag that cmd does not have the flags that may be meant.
func unknownFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	// The rule for names is cobra's, which knows commands only.
	flags := new(cobra.Command)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Hidden: f.Hidden, Run: func(*cobra.Command, []string) {}})
	})
	return orRather(err, "--", suggestions(flags, unknown.GetSpecifiedName()))
}

func orRather(err error, prefix string, near []string) error {
	if len(near) == 0 {
		return err
	}
	return fmt.Errorf("%w, did you mean %s?", err, prefix+strings.Join(near, " or "+prefix))
}

// strictBuiltins lets the commands that cobra adds, help and completion, refuse what they do not know.
func strictBuiltins(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				of, rest, err := root.Find(args)
				return errors.Join(err, unknownCommand(of, rest))
			}
		case "completion":
			cmd.Args = unknownCommand
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}
