// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/spf13/cobra"
)

func unloadCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "unload",
		Short: "Remove all programs, maps and links; live flows continue over TCP",
		Long: `Sends live flows to TCP, without loss, and removes everything that is pinned.
Running containers are not accelerated again until they are added again.

The agent loads again only after load, enable or install, or when a container is
added: ADD loads. After disable, the next load is disabled, too. A reboot resets
both.

--force also removes damaged state and state of other versions, and switches off
flows that no pin leads to. If flows cannot be switched off, nothing is removed,
and the command fails.`,
		Example: `  sockmapctl unload`,
	}
	cmd.Flags().BoolVar(&force, "force", false, "also remove damaged state and state of other versions")
	return runs(cmd, func(cmd *cobra.Command) error {
		kept, evict := a.readKept(true), a.evicting()
		defer evict.close()
		unloaded, err := a.node(datapath.Settings{}).UnloadOnRequest(cmd.Context(), force)
		if err != nil {
			return fmt.Errorf("unload: %w", err)
		}
		if unloaded {
			err = errors.Join(evict.end(&kept), a.sayUnloaded(kept))
		} else {
			err = a.say("nothing is loaded at %s", a.dir)
		}
		if err != nil {
			return err
		}
		if err := a.switchOffStrays(force); err != nil {
			return fmt.Errorf("unload: %w", err)
		}
		return nil
	})
}

func (a *app) sayUnloaded(kept keptView) error {
	lines := append([]string{fmt.Sprintf("unloaded from %s; live flows continue over TCP", a.dir)},
		kept.lines()...)
	lines = append(lines,
		"the next ADD loads again; the agent does not load before that, or before: sockmapctl load")
	if datapath.StaysDisabled(a.dir) {
		lines = append(lines, "it was disabled: the next load is disabled, too, until: sockmapctl enable")
	}
	return a.sayAll(lines)
}
