// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

func forgetCommand(a *app) *cobra.Command {
	var filter live.Filter
	cmd := &cobra.Command{
		Use:   "forget",
		Short: "Remove entries of avoided",
		Long: `Removes the entries that avoided lists, or those that the filters pick. New
connections may be redirected again, until a guard sees the same once more. Live
ones stay as they are.`,
		Example: `  sockmapctl forget
  sockmapctl forget --pod shop/db-0 --port 5432`,
	}
	a.filterFlags(cmd, &filter, live.ByOwner|live.ByPort)
	return runs(cmd, func(*cobra.Command) error {
		d, err := datapath.Open(a.dir)
		if err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		defer d.Close()
		own, err := live.ReadOwners(d)
		if err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		n, err := d.ForgetAvoided(func(one datapath.Avoided) bool {
			return filter.Fits(avoidedSubject(one, own))
		})
		if err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		if n == 0 {
			return a.say("nothing to forget")
		}
		return a.say("forgot %s; later connections are redirected again", term.Number(n, "entry", "entries"))
	})
}
