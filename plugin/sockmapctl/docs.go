// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

// moreDocs are commands below docs that not every build has.
var moreDocs []func(*app) *cobra.Command

// docsCommand writes what packages install.
func docsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "docs",
		Short:   "Print the documentation of all commands",
		Long:    "Prints the documentation of all commands, for packages to install.",
		Example: `  sockmapctl docs tree`,
		Hidden:  true,
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(treeCommand(a))
	for _, command := range moreDocs {
		cmd.AddCommand(command(a))
	}
	return cmd
}
