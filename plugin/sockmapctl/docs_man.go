// SPDX-License-Identifier: Apache-2.0

//go:build !lean

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func init() { moreDocs = append(moreDocs, manCommand) }

func manCommand(a *app) *cobra.Command {
	cmd := runs(&cobra.Command{
		Use:     "man DIR",
		Short:   "Write a manual page for each command",
		Long:    "Writes one page of section 8 for each command into DIR, which is made if need be.",
		Example: `  sockmapctl docs man /usr/local/share/man/man8`,
	}, func(cmd *cobra.Command) error {
		dir := cmd.Flags().Arg(0)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("write manual pages: %w", err)
		}
		root := rootCommand(&app{env: env{getenv: func(string) string { return "" }}})
		// Neither the day nor the place of a build: equal sources make equal pages.
		root.DisableAutoGenTag = true
		date := time.Unix(0, 0).UTC()
		header := &doc.GenManHeader{Section: "8", Date: &date, Source: "sockmap-cni " + version.String(), Manual: "sockmapctl"}
		if err := doc.GenManTree(root, header, dir); err != nil {
			return fmt.Errorf("write manual pages: %w", err)
		}
		return a.say("wrote the manual pages to %s", dir)
	})
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return errors.New("it takes one directory")
		}
		return nil
	}
	return cmd
}
