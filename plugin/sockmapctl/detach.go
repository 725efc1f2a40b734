// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/spf13/cobra"
)

func detachCommand(a *app) *cobra.Command {
	var (
		path string
		id   uint64
	)
	cmd := &cobra.Command{
		Use:   "detach {--cgroup PATH | --id ID}",
		Short: "Undo attach",
		Long: `Removes the link that attach made for a cgroup. Live flows stay as they are; new
connections do not take part. Links of containers stay: CNI removes them. A
cgroup that is gone has no path, but still an ID: see sockmapctl status -o json.`,
		Example: `  sockmapctl detach --cgroup databases.slice
  sockmapctl detach --id 4711`,
	}
	cmd.Flags().StringVar(&path, "cgroup", "", flagCgroup)
	cmd.Flags().Uint64Var(&id, "id", 0, "`ID` of the cgroup, as status shows it")
	cmd.MarkFlagsOneRequired("cgroup", "id")
	cmd.MarkFlagsMutuallyExclusive("cgroup", "id")
	return runs(cmd, func(cmd *cobra.Command) error {
		node := a.node(datapath.Settings{})
		if path != "" {
			var err error
			if id, err = node.CgroupID(path); errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w (for a cgroup that is gone: sockmapctl gc, or --id)", err)
			}
			if err != nil {
				return fmt.Errorf("detach: %w", err)
			}
		}
		removed, err := node.DetachCgroup(cmd.Context(), id)
		if err != nil {
			return fmt.Errorf("detach: %w", err)
		}
		if !removed {
			return a.say("cgroup %d was not attached with sockmapctl attach", id)
		}
		return a.say("detached cgroup %d", id)
	})
}
