// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/spf13/cobra"
)

func enableCommand(a *app) *cobra.Command {
	var (
		parts partFlags
		all   bool
	)
	cmd := &cobra.Command{
		Use:   "enable [POD...] [--namespace NAME] [--port PORT] [--all]",
		Short: "Undo disable, for the node or for some pods or ports",
		Long: `Turns the kill switch of this node off. New connections may be redirected.
Connections that disable turned into plain TCP stay plain TCP. Pods, namespaces
and ports that were switched off by name stay off, unless they are named here,
or --all is given.

For named pods, namespaces and ports, new connections may be redirected, and
live ones that were redirected before, unless they have left the sockhash.

After unload, enable lets the agent load again, with the kill switch off.`,
		Example: `  sockmapctl enable
  sockmapctl enable shop/db-0 --port 5432
  sockmapctl enable --all`,
	}
	parts.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "the node, and everything that was switched off by name")
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

func (a *app) enableNode(ctx context.Context) error {
	changed, err := a.node(datapath.Settings{}).SetDisabled(ctx, false)
	if err != nil {
		return fmt.Errorf("enable: %w", err)
	}
	switch {
	case !changed:
		return a.say("already enabled")
	case !a.isLoaded():
		return a.say("enabled: nothing is loaded before the next container is added, the agent looks, or: " +
			"sockmapctl load")
	}
	return a.say("enabled: new connections are redirected")
}

func (a *app) enableAllParts(ctx context.Context) error {
	n := a.node(datapath.Settings{})
	all, err := n.Switches(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	if err == nil && len(all) > 0 {
		_, err = n.Switch(ctx, false, all)
	}
	if err != nil {
		return fmt.Errorf("enable: %w", err)
	}
	for _, s := range all {
		if err := a.say("switched on: %s", s); err != nil {
			return err
		}
	}
	return nil
}
