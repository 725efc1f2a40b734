// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func upgradeCommand(a *app) *cobra.Command {
	var (
		force, dry bool
		maxSockets uint32
		guards     guardNames
	)
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the loaded programs with those of this version",
		Long: `Replaces the loaded programs with those of this sockmapctl, for all containers
at once. Live flows lose nothing. Flows of the same ABI stay redirected by the
program that they began with. Flows of an older ABI stay in the old state until
they end. Settings do not change.

--max-sockets changes the size of the sockhash, --guards the guards that may
run. New maps and guards are then created beside the loaded ones: new
connections use them, and live flows stay redirected with the old ones until
they end. A setting without its flag does not change.

ADD never upgrades: it uses the loaded programs, whichever version of the plugin
the runtime calls. See docs/UPGRADE.md.`,
		Example: `  sockmapctl upgrade --dry-run
  sockmapctl upgrade
  sockmapctl upgrade --max-sockets 262144`,
	}
	cmd.Flags().Uint32Var(&maxSockets, "max-sockets", cniconf.DefaultMaxSockets,
		"`ENTRIES` of the sockhash from now on")
	before(cmd, func() error { return checkFlag("--max-sockets", "maxSockets", maxSockets) })
	guards.flag(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would change, and change nothing")
	cmd.Flags().BoolVar(&force, "force", false,
		"also to an older version, and without guards that run now and would not load any more")
	return runs(cmd, func(cmd *cobra.Command) error {
		n := a.node(defaultSettings()) // for the probes; what is in force stays
		if err := a.wantSettings(n, cmd.Flags(), maxSockets, &guards); err != nil {
			return fmt.Errorf("upgrade: %w", err)
		}
		if dry {
			up, err := n.PlanUpgrade(cmd.Context())
			if force && errors.Is(err, endpoint.ErrDowngrade) {
				up.Kind, err = endpoint.UpgradePrograms, nil
			}
			if err = errors.Join(err, up.Postponed); err != nil {
				return fmt.Errorf("upgrade: %w", err)
			}
			return a.say("%s", planned(up))
		}
		upgrade := n.Upgrade
		if force {
			upgrade = n.ForceUpgrade
		}
		up, err := upgrade(cmd.Context())
		if err = errors.Join(err, up.Postponed); err != nil {
			return fmt.Errorf("upgrade: %w", err)
		}
		return a.sayUpgraded(up)
	})
}

// wantSettings makes an upgrade change the size and the guards, where a flag was given. Otherwise they stay
// as loaded.
func (a *app) wantSettings(
	n *endpoint.Node, flags *pflag.FlagSet, maxSockets uint32, guards *guardNames,
) error {
	if !flags.Changed("max-sockets") && !flags.Changed("guards") {
		return nil
	}
	d, err := datapath.Open(a.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	now, err := d.Config()
	if err != nil {
		return err
	}
	states, err := d.GuardStates()
	if err != nil {
		return err
	}
	n.SettingsCount = true
	n.Settings.MaxSockets = now.MaxSockets
	if flags.Changed("max-sockets") {
		n.Settings.MaxSockets = maxSockets
	}
	if flags.Changed("guards") {
		n.Settings.WithoutGuards = guards.without()
		return nil
	}
	for _, g := range states {
		if g.SwitchedOff() {
			n.Settings.WithoutGuards = append(n.Settings.WithoutGuards, g.Name)
		}
	}
	return nil
}

func planned(up endpoint.UpgradePlan) string {
	switch up.Kind {
	case endpoint.UpgradeSettings:
		return "would put maps of another size, or other guards, beside those that are loaded, which stay " +
			"until their live flows end"
	case endpoint.UpgradeVersion:
		return fmt.Sprintf("would only record version %s: the programs are those of %s", up.To, up.From)
	case endpoint.UpgradeProbes:
		return fmt.Sprintf("would ask the kernel for hazards with the probes of %s: the programs are those "+
			"of %s", up.To, up.From)
	case endpoint.UpgradePrograms:
		return fmt.Sprintf("would replace %s; live flows stay redirected", fromTo(up))
	case endpoint.UpgradeMaps:
		return fmt.Sprintf("would put new maps (ABI %d) beside those of %s (ABI %d), which stay until "+
			"their live flows end",
			up.ToABI, up.From, up.FromABI)
	}
	return nothingToUpgrade(up)
}

func fromTo(up endpoint.UpgradePlan) string {
	if up.From == up.To {
		return fmt.Sprintf("the programs of %s by other ones of that name", up.From)
	}
	return fmt.Sprintf("the programs of %s by those of %s", up.From, up.To)
}

func nothingToUpgrade(up endpoint.UpgradePlan) string {
	return fmt.Sprintf("nothing to upgrade: %s is loaded, which has the same programs as this %s", up.From,
		up.To)
}

func (a *app) sayUpgraded(up endpoint.UpgradePlan) error {
	switch up.Kind {
	case endpoint.UpgradeNone:
		return a.say("%s", nothingToUpgrade(up))
	case endpoint.UpgradeVersion:
		return a.say("recorded version %s: the programs are those of %s", up.To, up.From)
	case endpoint.UpgradeProbes:
		if err := a.say("asked the kernel for hazards with the probes of %s: the programs are those of %s",
			up.To, up.From); err != nil {
			return err
		}
		return a.sayHazards("upgrade")
	}
	if up.Kind == endpoint.UpgradeSettings {
		err := a.say("changed size or guards: new connections of %s belong to the new state; "+
			"live flows end with the old one, see: sockmapctl status", term.Number(up.Cgroups, "cgroup",
			"cgroups"))
		if err != nil {
			return err
		}
		return a.sayHazards("upgrade")
	}
	err := a.say("replaced %s: new connections of %s run the new ones",
		fromTo(up), term.Number(up.Cgroups, "cgroup", "cgroups"))
	if err == nil && up.Kind == endpoint.UpgradeMaps {
		err = a.say("live flows end with the maps of ABI %d, see: sockmapctl status", up.FromABI)
	}
	if err != nil {
		return err
	}
	return a.sayHazards("upgrade")
}

// available describes the upgrade that is possible; empty: none.
func available(ctx context.Context, n *endpoint.Node) string {
	up, err := n.PlanUpgrade(ctx)
	if err != nil || up.Kind == endpoint.UpgradeNone || up.Kind == endpoint.UpgradeVersion {
		return ""
	}
	if up.Kind == endpoint.UpgradeProbes {
		return fmt.Sprintf("the probes of this version, %s, have not looked for hazards of this kernel; "+
			"let them with: sockmapctl upgrade", up.To)
	}
	return fmt.Sprintf("an upgrade is available: %s is loaded, this is %s; take it with: sockmapctl upgrade",
		up.From, up.To)
}
