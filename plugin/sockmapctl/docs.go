// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
)

// docsCommand prints the tree of commands, for the manual pages that packages install.
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
	return cmd
}
