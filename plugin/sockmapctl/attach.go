// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/spf13/cobra"
)

func attachCommand(a *app) *cobra.Command {
	var (
		path     string
		accepted hazardNames
	)
	cmd := &cobra.Command{
		Use:   "attach --cgroup PATH [--accept-hazards NAMES]",
		Short: "Accelerate a cgroup without CNI",
		Long: `Attaches the programs to a cgroup2 directory, and loads them if necessary.
Sockets that are created in the cgroup or below it from then on take part, in
any network namespace, unless their container has opted out. Opt-outs are
recorded from the first load on: an earlier one is not known until its container
is added again.

The attachment ends with the cgroup. systemd removes the cgroup of a service
when the service stops, so a restart ends it silently. Attach a slice instead,
which stays, and give the service a slice of its own (Slice= in its unit); or
attach again after each start (ExecStartPost=).

If this kernel has severe hazards that no guard cures, nothing is attached until
they are accepted by name.`,
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
			return a.say("already attached: cgroup %d, %s", id, path)
		}
		return a.say("attached: cgroup %d, %s", id, path)
	})
}
