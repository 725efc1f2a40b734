// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

func filterFlags(f *live.Filter, a *app, cmd *cobra.Command) {
	for _, one := range []struct {
		list        *[]string
		name, usage string
	}{
		{&f.Pods, "pod", "`PODS` of either end: name, or namespace/name"},
		{&f.Namespaces, "namespace", "`NAMESPACES` of pods of either end"},
		{&f.Addresses, "address", "`ADDRESSES` of either end, or prefixes like 10.1.0.0/16"},
		{&f.Ports, "port", "`PORTS` of either end, or ranges like 8000-8999"},
		{&f.Modes, "mode", "`MODES`: " + term.OrList(live.ModeNames())},
		{&f.Reasons, "reason", "`REASONS` why it is on TCP, see METRICS.md"},
		{&f.Roles, "role", "`ROLES` of the end: " + term.OrList(live.RoleNames())},
	} {
		cmd.Flags().StringSliceVar(one.list, one.name, nil, one.usage)
	}
	complete(cmd, "mode", live.ModeNames())
	complete(cmd, "reason", live.ReasonNames())
	complete(cmd, "role", live.RoleNames())
	completeWith(cmd, "pod", a.podNames)
	completeWith(cmd, "namespace", a.namespaceNames)
}
