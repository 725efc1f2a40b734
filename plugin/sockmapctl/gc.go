// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

func gcCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove attachments, links and endpoints of containers that are gone",
		Long: `Removes attachments whose cgroup or network namespace is gone, and links and
endpoints without an attachment. The plugin does the same at each ADD, in small
steps.`,
		Example: `  sockmapctl gc`,
	}
	return runs(cmd, func(cmd *cobra.Command) error {
		removed, err := a.node(datapath.Settings{}).Reap(cmd.Context())
		for _, r := range removed {
			if err := a.say("removed %s %s: %s", r.Kind, term.Printable(r.Name), r.Why); err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("collect garbage: %w", err)
		}
		if len(removed) == 0 {
			return a.say("nothing to remove")
		}
		return nil
	})
}
