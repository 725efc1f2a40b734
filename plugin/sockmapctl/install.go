// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/spf13/cobra"
)

func installCommand(a *app) *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the plugin and add its entry to the network configuration",
		Long: `Copies the plugin to the directory where runtimes look for plugins, and adds its
entry to the network configuration that they load. A file with a single plugin
is replaced by a list, which uninstall undoes. Nothing else in the file changes:
see docs/INSTALL.md.

Running containers are not touched. The same command updates an installation. At
the end it prints the verdict of doctor for this kernel and that entry.`,
		Example: `  sockmapctl install
  sockmapctl install --config '{"peers": "namespace"}' --accept-hazards splice`,
	}
	f.flags(a, cmd)
	return runs(cmd, func(cmd *cobra.Command) error {
		i := f.installer()
		for _, warning := range f.entry.Conf.Warnings {
			fmt.Fprintf(a.stderr, "sockmapctl: --config: %s\n", warning)
		}
		changed, err := i.InstallBinary(cmd.Context())
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		if err := a.say("%s %s", already(changed, "installed"), i.Binary()); err != nil {
			return err
		}
		c, err := i.Chain(cmd.Context())
		for _, s := range c.Skipped {
			fmt.Fprintf(a.stderr,
				"sockmapctl: %s cannot be loaded: %v (containerd loads nothing while it sorts first)\n",
				s.Path, s.Err)
		}
		if errors.Is(err, install.ErrNoNetwork) {
			err = fmt.Errorf("%w (install a network plugin first)", err)
		}
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		done := already(c.Changed, "chained into")
		if err := a.say("%s network %s, in %s", done, c.Network, c.Path); err != nil {
			return err
		}
		if err := a.forgetUnload(cmd.Context()); err != nil {
			return err
		}
		return a.sayOutlook(cmd.Context(), f.entry.Conf)
	})
}

// forgetUnload lets the agent load again after an unload. The kill switch does not change.
func (a *app) forgetUnload(ctx context.Context) error {
	changed, err := a.node(datapath.Settings{}).ForgetUnload(ctx)
	if err != nil {
		return fmt.Errorf("install: let the agent load again: %w", err)
	}
	if !changed {
		return nil
	}
	text := "the programs were unloaded with sockmapctl unload; the agent, or the next container, loads " +
		"them again"
	if datapath.StaysDisabled(a.dir) {
		text += ", disabled as they were (sockmapctl enable)"
	}
	return a.say("%s", text)
}

func already(changed bool, done string) string {
	if changed {
		return done
	}
	return "already " + done
}
