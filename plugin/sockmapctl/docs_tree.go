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
	Version string       `json:"version" doc:"of the program"`
	Command *commandView `json:"command" doc:"the root command"`
}

// commandView is one command with its subcommands. Hidden commands and flags are left out.
type commandView struct {
	Name     string         `json:"name" doc:"last word of path"`
	Path     string         `json:"path" doc:"all words, such as sockmapctl docs tree"`
	Use      string         `json:"use" doc:"the synopsis"`
	Aliases  []string       `json:"aliases" doc:"other names"`
	Group    string         `json:"group" doc:"title of the group in the help of the parent; may be empty"`
	Short    string         `json:"short" doc:"one line"`
	Long     string         `json:"long" doc:"the description"`
	Examples []string       `json:"examples" doc:"one line each"`
	Flags    []flagView     `json:"flags" doc:"of this command, sorted by name"`
	Shared   []flagView     `json:"inheritedFlags" doc:"of the commands above it"`
	Commands []*commandView `json:"commands" doc:"subcommands, sorted by name"`
}

type flagView struct {
	Name      string `json:"name" doc:"without dashes"`
	Shorthand string `json:"shorthand" doc:"one letter; empty: none"`
	Value     string `json:"value" doc:"placeholder of its value; empty: it is a switch"`
	Type      string `json:"type" doc:"such as string, bool, duration"`
	Default   string `json:"default" doc:"as text"`
	Alone     string `json:"alone" doc:"the value of a flag that is given without one; empty: a value is needed"`
	Usage     string `json:"usage" doc:"one line"`
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
