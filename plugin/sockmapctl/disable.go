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
		Short: "Send all traffic, or that of some pods or ports, over TCP until enable",
		Long: `Turns the kill switch of this node on. Live flows continue over TCP with their
next message and lose nothing. Connections that are made meanwhile stay on TCP
until they end. The agent and an unload keep the switch; a reboot resets it.

Live connections become plain TCP if possible. The output has the number of
those that cannot, the reason, and how they differ from TCP until they end.

With pods, namespaces or ports only these are switched off on this node. Their
live flows use TCP within a second, and their new connections stay on TCP. The
switch of a pod also holds for a later pod with the same name. A POD is
NAMESPACE/NAME, a name, or the beginning of a sandbox ID. A port is the
server's. status lists what is switched off. An unload or a reboot resets it.`,
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

func (a *app) disableNode(ctx context.Context) error {
	changed, err := a.node(datapath.Settings{}).SetDisabled(ctx, true)
	if err != nil {
		return fmt.Errorf("disable: %w", err)
	}
	if !changed {
		return a.say("already disabled")
	}
	if !a.isLoaded() {
		return a.say("disabled: nothing is loaded; the next load starts with all flows on TCP")
	}
	kept, evict := a.readKept(false), a.evicting()
	defer evict.close()
	err = evict.end(&kept)
	return errors.Join(err, a.sayAll(append([]string{"disabled: all flows use TCP"}, kept.lines()...)))
}
