// SPDX-License-Identifier: Apache-2.0

// Command man writes a manual page of section 8 for each command of sockmapctl: man DIR, with the output of
// sockmapctl docs tree on standard input.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// tree is the part of the output of docs tree that the pages need.
type tree struct {
	Program, Version string
	Command          *command
}

type command struct {
	Name, Path, Use, Short, Long string
	Aliases, Examples            []string
	Flags                        []flag
	InheritedFlags               []flag
	Commands                     []*command
}

type flag struct{ Name, Shorthand, Value, Type, Default, Alone, Usage string }

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sockmapctl docs tree | man DIR")
		os.Exit(2)
	}
	if err := write(os.Stdin, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func write(in io.Reader, dir string) error {
	var t tree
	if err := json.NewDecoder(in).Decode(&t); err != nil {
		return fmt.Errorf("read the commands: %w", err)
	}
	if t.Command == nil || len(t.Command.Commands) == 0 {
		return fmt.Errorf("read the commands: there are none")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root := t.Command.cobra("")
	// Neither the date nor the path of the build: the same sources give the same pages.
	root.DisableAutoGenTag = true
	date := time.Unix(0, 0).UTC()
	header := &doc.GenManHeader{Section: "8", Date: &date, Source: "sockmap-cni " + t.Version, Manual: t.Program}
	return doc.GenManTree(root, header, dir)
}

// cobra rebuilds a command of the program, below a command with the words of parent.
func (c *command) cobra(parent string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     strings.TrimPrefix(strings.TrimPrefix(c.Use, parent), " "),
		Short:   c.Short,
		Long:    c.Long,
		Aliases: c.Aliases,
		Run:     func(*cobra.Command, []string) {},
		// Use has them already.
		DisableFlagsInUseLine: true,
	}
	if len(c.Examples) > 0 {
		cmd.Example = "  " + strings.Join(c.Examples, "\n  ")
	}
	inherited := map[string]bool{}
	for _, sub := range c.Commands {
		for _, f := range sub.InheritedFlags {
			inherited[f.Name] = true
		}
		cmd.AddCommand(sub.cobra(c.Path))
	}
	for _, f := range c.Flags {
		if inherited[f.Name] {
			cmd.PersistentFlags().AddFlag(f.pflag())
		} else {
			cmd.Flags().AddFlag(f.pflag())
		}
	}
	return cmd
}

func (f flag) pflag() *pflag.Flag {
	usage := f.Usage
	if f.Value != "" {
		// The page names the value as the help does.
		usage = strings.Replace(usage, f.Value, "`"+f.Value+"`", 1)
	}
	return &pflag.Flag{
		Name: f.Name, Shorthand: f.Shorthand, Usage: usage, Value: text{f.Default, f.Type}, DefValue: f.Default,
		NoOptDefVal: f.Alone,
	}
}

// text is a flag's value that is never set.
type text struct{ value, kind string }

func (t text) String() string   { return t.value }
func (t text) Set(string) error { return nil }
func (t text) Type() string     { return t.kind }
