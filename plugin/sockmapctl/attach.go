// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/spf13/cobra"
)

const flagCgroup = "`PATH` of a cgroup2 directory, in the file system or below the cgroup2 mount"

func attachCommand(a *app) *cobra.Command {
	var (
		path     string
		accepted hazardNames
	)
	cmd := &cobra.Command{
		Use:   "attach --cgroup PATH [--accept-hazards NAMES]",
		Short: "Accelerate a cgroup without CNI",
		Long: `Attaches the programs to any cgroup2, and loads them if need be. Sockets that
are made in the cgroup and below it from then on take part, whatever their
network namespace, unless a container has opted out. Opt-outs are recorded
from the first load on: one from before is not known until its container is
added again.

It lasts as long as the cgroup does. systemd removes a service's cgroup when the
service stops, so a restart ends it without a word. Attach the slice instead,
which stays, and give the service one of its own (Slice= in its unit) to take
no others with it; or attach again after each start (ExecStartPost=).

Nothing is attached where this kernel has severe hazards that no guard cures,
until they are accepted by name.`,
		Example: `  sockmapctl attach --cgroup /sys/fs/cgroup/databases.slice
  sockmapctl attach --cgroup databases.slice --accept-hazards splice`,
	}
	cmd.Flags().StringVar(&path, "cgroup", "", flagCgroup)
	cmd.MarkFlagRequired("cgroup")
	accepted.flag(cmd, "`NAMES` of hazards that applications in it may meet, or all")
	return runs(cmd, func(cmd *cobra.Command) error {
		id, made, err := a.node(defaultSettings()).AttachCgroup(cmd.Context(), path, accepted.names...)
		if hazards := (*endpoint.HazardError)(nil); errors.As(err, &hazards) {
			err = heldBack{hazards}
		}
		if err != nil {
			return fmt.Errorf("attach: %w", err)
		}
		if !made {
			return a.say("already attached by hand: cgroup %d, %s", id, path)
		}
		return a.say("attached by hand: cgroup %d, %s", id, path)
	})
}

func detachCommand(a *app) *cobra.Command {
	var (
		path string
		id   uint64
	)
	cmd := &cobra.Command{
		Use:   "detach {--cgroup PATH | --id ID}",
		Short: "Take back what attach did",
		Long: `Removes the link that attach has made for a cgroup. Live flows stay as they are,
new connections are not taken any more. Links of containers stay: CNI removes
them. A cgroup that is gone has no path, but still its id: see sockmapctl status
-o json.`,
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
			return a.say("cgroup %d is not attached by hand", id)
		}
		return a.say("detached cgroup %d", id)
	})
}
