// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/spf13/cobra"
)

func disableCommand(a *app) *cobra.Command {
	var parts partFlags
	cmd := &cobra.Command{
		Use:   "disable [POD...] [--namespace NAME] [--port PORT]",
		Short: "Send everything by TCP, or a part of it, live flows too, until enable",
		Long: `Turns the kill switch of this node. Live flows go to TCP with their next message
and lose nothing; connections that are made meanwhile stay on TCP for good. The
agent leaves the switch as it is, and so does an unload. A reboot forgets it.

Live connections become plain TCP again, as far as they can. It tells how many
cannot, why, and what stays different about them until they are made anew.

With pods, namespaces or ports it switches off these only, on this node: live
flows of theirs go by TCP within a second, and what is made anew stays on TCP,
also of a pod that comes later under the same name. A POD is namespace/name, a
name, or the beginning of a sandbox's id. A port is the server's. Status lists
what is switched off. An unload and a reboot forget it.`,
		Example: `  sockmapctl disable
  sockmapctl disable shop/db-0
  sockmapctl disable --namespace shop --port 5432 --port 8000-8010`,
	}
	parts.flags(cmd)
	runs(cmd, func(cmd *cobra.Command) error {
		if parts.any(cmd) {
			return a.switchParts(cmd.Context(), true, cmd.Flags().Args(), parts)
		}
		return a.disableNode(cmd.Context())
	})
	cmd.Args = parts.check
	return cmd
}

func enableCommand(a *app) *cobra.Command {
	var (
		parts partFlags
		all   bool
	)
	cmd := &cobra.Command{
		Use:   "enable [POD...] [--namespace NAME] [--port PORT] [--all]",
		Short: "Let flows be redirected again, all or those of a part",
		Long: `Takes disable back for connections that are made from now on. Those that disable
has made plain TCP stay so. What was switched off by name stays off, unless it
is named here, or --all is given.

Of pods, namespaces and ports that are named, new connections are redirected,
and so are live ones that were before, unless they have left the sockhash
meanwhile, as busy ones do.

After unload it lets the agent load again, with the kill switch off.`,
		Example: `  sockmapctl enable
  sockmapctl enable shop/db-0 --port 5432
  sockmapctl enable --all`,
	}
	parts.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "the node, and whatever was switched off by name")
	runs(cmd, func(cmd *cobra.Command) error {
		switch {
		case all:
			return errors.Join(a.enableNode(cmd.Context()), a.enableAllParts(cmd.Context()))
		case parts.any(cmd):
			return a.switchParts(cmd.Context(), false, cmd.Flags().Args(), parts)
		}
		return a.enableNode(cmd.Context())
	})
	cmd.Args = func(cmd *cobra.Command, pods []string) error {
		if all && (len(pods) > 0 || parts.any(cmd)) {
			return errors.New("name parts, or give --all")
		}
		return parts.check(cmd, pods)
	}
	return cmd
}

func (a *app) disableNode(ctx context.Context) error {
	changed, err := a.node(datapath.Settings{}).SetDisabled(ctx, true)
	if err != nil {
		return fmt.Errorf("disable: %w", err)
	}
	if !changed {
		return a.say("already disabled")
	}
	if !a.isLoaded() {
		return a.say("disabled: nothing is loaded, and what is loaded next sends all flows by TCP")
	}
	kept, evict := a.readKept(false), a.evicting()
	defer evict.close()
	err = evict.end(&kept)
	return errors.Join(err, a.sayAll(append([]string{"disabled: all flows go by TCP"}, kept.lines()...)))
}

func (a *app) enableNode(ctx context.Context) error {
	changed, err := a.node(datapath.Settings{}).SetDisabled(ctx, false)
	if err != nil {
		return fmt.Errorf("enable: %w", err)
	}
	switch {
	case !changed:
		return a.say("already enabled")
	case !a.isLoaded():
		return a.say("enabled: nothing is loaded before the next container is added, the agent looks, or: sockmapctl load")
	}
	return a.say("enabled: new connections are redirected")
}
