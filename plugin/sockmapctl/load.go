// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/spf13/cobra"
)

func loadCommand(a *app) *cobra.Command {
	var (
		s      datapath.Settings
		guards guardNames
		again  bool
	)
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Load and pin the programs, as the first ADD after a boot does",
		Long: `Loads and pins the programs, so that the first container does not wait for it,
and looks for hazards of this kernel. If the programs are loaded already, they
and their settings do not change, and the output names an available upgrade. The
next ADD applies its configuration, except for the size of the sockhash.

After a failed load, this command tries again at once; an ADD waits a minute
before it tries again. With --probe-again, the probes of this version run also
if the programs are loaded. Running containers do not change.`,
		Example: `  sockmapctl load
  sockmapctl load --probe-again
  sockmapctl load --max-sockets 262144`,
	}
	cmd.Flags().BoolVar(&again, "probe-again", false,
		"run the probes again, also if the programs are loaded")
	settingsFlags(cmd, &s)
	guards.flag(cmd)
	return runs(cmd, func(cmd *cobra.Command) error {
		s.WithoutGuards = guards.without()
		return a.load(cmd, s, again)
	})
}

// settingsFlags adds the flags of the settings that a load takes, except guards, and checks their values
// before the command runs.
func settingsFlags(cmd *cobra.Command, s *datapath.Settings) {
	flags := cmd.Flags()
	flags.Uint32Var(&s.MaxSockets, "max-sockets", cniconf.DefaultMaxSockets,
		"`ENTRIES` of the sockhash, two for each connection")
	flags.Uint32Var(&s.MaxBacklogBytes, "max-backlog-bytes", cniconf.DefaultMaxBacklogBytes,
		"`BYTES` that may wait for a reader before its writer goes to TCP")
	flags.Uint32Var(&s.MaxBacklogMessages, "max-backlog-messages", cniconf.DefaultMaxBacklogMessages,
		"`MESSAGES` that may wait")
	flags.Uint32Var(&s.NATRefreshSeconds, "nat-refresh-seconds", cniconf.DefaultNATRefreshSeconds,
		"`SECONDS` after which a busy flow sends one message over TCP, so that NAT does not forget "+
			"it; 0: never")
	flags.StringVar((*string)(&s.Coexist), "coexist", string(datapath.CoexistYield),
		"`WHAT` to do where another program owns a sockhash: yield or share")
	flags.StringVar((*string)(&s.Helpers), "conntrack-helpers", string(datapath.HelpersAvoid),
		"`WHAT` to do with ports of conntrack helpers: avoid or ignore")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		return errors.Join(
			checkFlag("--max-sockets", "maxSockets", s.MaxSockets),
			checkFlag("--max-backlog-bytes", "maxBacklogBytes", s.MaxBacklogBytes),
			checkFlag("--max-backlog-messages", "maxBacklogMessages", s.MaxBacklogMessages),
			checkFlag("--nat-refresh-seconds", "natRefreshSeconds", s.NATRefreshSeconds),
			checkFlag("--coexist", "coexist", s.Coexist),
			checkFlag("--conntrack-helpers", "conntrackHelpers", s.Helpers),
		)
	}
}

func (a *app) load(cmd *cobra.Command, s datapath.Settings, again bool) error {
	n := a.node(s)
	loaded, err := n.Load(cmd.Context())
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if loaded {
		if err := a.say("loaded at %s, with room for %d sockets", a.dir, s.MaxSockets); err != nil {
			return err
		}
		return a.sayHazards("load")
	}
	if again {
		return a.probeAgain(cmd, n)
	}
	err = a.say("already loaded at %s", a.dir)
	if news := available(cmd.Context(), n); news != "" && err == nil {
		err = a.say("%s", news)
	}
	return err
}

func (a *app) probeAgain(cmd *cobra.Command, n *endpoint.Node) error {
	was, now, err := n.ProbeAgain(cmd.Context())
	if err != nil {
		return fmt.Errorf("load: probe again: %w", err)
	}
	if err := a.say("already loaded at %s; ran the probes again", a.dir); err != nil {
		return err
	}
	if gone := was &^ now; gone != 0 {
		if err := a.say("not found any more: %s", gone); err != nil {
			return err
		}
	}
	if found := now &^ was; found != 0 {
		if err := a.say("found now: %s", found); err != nil {
			return err
		}
	}
	return a.sayHazards("load")
}
