// SPDX-License-Identifier: Apache-2.0

//go:build lean

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// topCommand only prints an error in a lean build: the image of the agent does not have the libraries of the
// terminal view.
func topCommand(*app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch connections or pods on the whole terminal (not in this build)",
		Long: `This build has no terminal view. Use sockmapctl flows --watch, or the full
sockmapctl on the host.`,
		Example: `  sockmapctl flows --watch`,
	}
	return runs(cmd, func(*cobra.Command) error {
		return errors.New("top: this build has no terminal view: use sockmapctl flows --watch, or the " +
			"full sockmapctl on the host")
	})
}
