// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// treeView is the document of docs tree, the input of the generator of manual pages.
type treeView struct {
	Program string       `json:"program" doc:"name of the program"`
	Version string       `json:"version" doc:"version of the program"`
	Command *commandView `json:"command" doc:"the root command"`
}

// commandView is one command with its subcommands. Hidden commands and flags are left out.
type commandView struct {
	Name     string         `json:"name" doc:"last word of path"`
	Path     string         `json:"path" doc:"full command, such as sockmapctl docs tree"`
	Use      string         `json:"use" doc:"synopsis of the command"`
	Aliases  []string       `json:"aliases" doc:"other names of the command"`
	Group    string         `json:"group" doc:"title of its group in the help of the parent command; may be empty"`
	Short    string         `json:"short" doc:"description in one line"`
	Long     string         `json:"long" doc:"full description"`
	Examples []string       `json:"examples" doc:"examples, one line each"`
	Flags    []flagView     `json:"flags" doc:"flags of this command, sorted by name"`
	Shared   []flagView     `json:"inheritedFlags" doc:"flags that parent commands define, sorted by name"`
	Commands []*commandView `json:"commands" doc:"subcommands, sorted by name"`
}

type flagView struct {
	Name      string `json:"name" doc:"name of the flag, without dashes"`
	Shorthand string `json:"shorthand" doc:"one letter; empty when there is none"`
	Value     string `json:"value" doc:"placeholder of the value; empty when the flag takes no value"`
	Type      string `json:"type" doc:"type of the value, such as string, bool or duration"`
	Default   string `json:"default" doc:"default value as text"`
	Alone     string `json:"alone" doc:"value when the flag is given without one; empty when a value is required"`
	Usage     string `json:"usage" doc:"description in one line"`
}

func treeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tree",
		Short:   "Print all commands and flags as JSON",
		Long:    "Prints all commands and flags as one JSON document. Packages make manual pages from it.",
		Example: `  sockmapctl docs tree | jq -r '.command.commands[].name'`,
	}
	return runs(cmd, func(*cobra.Command) error {
		// This root has the defaults of the program, not those of this environment.
		root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
		return a.printDocument("CommandTree",
			&treeView{Program: root.Name(), Version: version.String(), Command: newCommandView(root)})
	})
}

func newCommandView(cmd *cobra.Command) *commandView {
	v := &commandView{
		Name: cmd.Name(), Path: cmd.CommandPath(), Use: cmd.UseLine(),
		Aliases: append([]string{}, cmd.Aliases...),
		Short:   cmd.Short, Long: cmd.Long, Examples: []string{}, Commands: []*commandView{},
		Flags: flagViews(cmd.LocalFlags()), Shared: flagViews(cmd.InheritedFlags()),
	}
	if parent := cmd.Parent(); parent != nil {
		for _, g := range parent.Groups() {
			if g.ID == cmd.GroupID {
				v.Group = strings.TrimSuffix(g.Title, ":")
			}
		}
	}
	for line := range strings.Lines(cmd.Example) {
		v.Examples = append(v.Examples, strings.TrimSpace(line))
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && !sub.Hidden {
			v.Commands = append(v.Commands, newCommandView(sub))
		}
	}
	return v
}

func flagViews(flags *pflag.FlagSet) []flagView {
	views := []flagView{}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		v := flagView{
			Name: f.Name, Shorthand: f.Shorthand, Value: value, Type: f.Value.Type(), Default: f.DefValue,
			Alone: f.NoOptDefVal, Usage: usage,
		}
		views = append(views, v)
	})
	return views
}
