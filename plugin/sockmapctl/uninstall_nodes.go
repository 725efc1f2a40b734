// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/daemonset"
	"github.com/spf13/cobra"
)

func uninstallNodesCommand(a *app) *cobra.Command {
	var (
		name    string
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "uninstall-nodes --daemonset NAMESPACE/NAME",
		Short: "Remove the plugin from all nodes of a DaemonSet, from a pod",
		Long: `Gives the agents of a DaemonSet the flag --uninstall, and waits until each of
them is ready: its node has nothing of sockmap left then. The DaemonSet stays;
delete it afterwards.

It runs in a pod, with an account that may get and patch the DaemonSet. The
chart runs it in a hook of helm uninstall. It refuses a DaemonSet that Helm has
not installed.`,
		Example: `  sockmapctl uninstall-nodes --daemonset kube-system/sockmap-cni`,
	}
	flags := cmd.Flags()
	flags.StringVar(&name, "daemonset", "", "`NAME` of the DaemonSet: namespace/name")
	flags.DurationVar(&timeout, "timeout", 4*time.Minute, "`TIME` that all nodes have together")
	before(cmd, func() error {
		if namespace, of, ok := strings.Cut(name, "/"); !ok || namespace == "" || of == "" ||
			strings.Contains(of, "/") {
			return fmt.Errorf("--daemonset: %q is not namespace/name", name)
		}
		if timeout <= 0 {
			return fmt.Errorf("--timeout: %v is not positive", timeout)
		}
		return nil
	})
	return runs(cmd, func(cmd *cobra.Command) error {
		api, err := daemonset.InCluster(a.getenv)
		if err != nil {
			return fmt.Errorf("uninstall-nodes: %w", err)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		namespace, of, _ := strings.Cut(name, "/")
		d := &daemonset.DaemonSet{API: api, Namespace: namespace, Name: of,
			Progress: func(text string) { _ = a.say("%s", text) }}
		if err := d.Uninstall(ctx); err != nil {
			return fmt.Errorf("uninstall-nodes: %w", err)
		}
		return nil
	})
}
