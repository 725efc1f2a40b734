// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/admit"
	"github.com/sockmap-cni/sockmap-cni/pkg/agent"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/spf13/cobra"
)

// agentFlags are the flags that only the agent has.
type agentFlags struct {
	installFlags
	removal         removalFlags
	series          seriesFlags
	listen, format  string
	readyMeans      string
	reap, recheck   time.Duration
	uninstallOnExit bool
	uninstall       bool
	pods            podFlags
	adopt           bool
	podsEvery       time.Duration
}

func agentCommand(a *app) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Keep the plugin installed and the programs loaded, and serve metrics",
		Long: `Does what install does, loads the programs, and keeps both in place: it repairs
changes by other components, with growing pauses if they repeat. Removes the
leftovers of containers that are gone. Applies changes of the plugin's entry to
running containers, and with --adopt accelerates those that ran before the
installation. Serves /metrics, /healthz and /readyz. /readyz?verbose lists the
parts that make the agent ready, each with ok or the reason why not.

SIGTERM ends the agent and leaves everything in place for the next one. The
agent needs no access to the Kubernetes API.

With --uninstall it does the opposite: it removes everything, as uninstall does,
tries again after failures, and keeps running. It is ready once nothing is left.`,
		Example: `  sockmapctl agent --log-format json
  sockmapctl agent --config-file /etc/sockmap-cni/agent.yaml
  sockmapctl agent --plugin /usr/lib/sockmap --config '{"required": true}'`,
	}
	f.installFlags.flags(a, cmd)
	f.removal.flags(cmd)
	f.series.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:9469",
		"`ADDRESS` of the HTTP server, without authentication; empty: none")
	mayBeEmpty(cmd, "listen")
	flags.StringVar(&f.readyMeans, "ready-means", string(agent.ReadyInstalled),
		"`WHAT` /readyz and sockmap_agent_ready report: installed, or accelerating")
	flags.StringVar(&f.format, "log-format", formatText, "`FORMAT`: text or json")
	flags.DurationVar(&f.reap, "reap-interval", agent.DefaultReap,
		"`TIME` between removals of the leftovers of containers that are gone")
	flags.DurationVar(&f.recheck, "recheck-interval", agent.DefaultRecheck,
		"`TIME` after which everything is checked without an event")
	flags.BoolVar(&f.uninstallOnExit, "uninstall-on-exit", false,
		"do what uninstall does before the agent ends")
	flags.BoolVar(&f.uninstall, "uninstall", false, "remove everything at once, and be ready when it is gone")
	f.pods.criFlag(a, cmd)
	flags.BoolVar(&f.adopt, "adopt", false, "do what adopt --all does, periodically")
	flags.DurationVar(&f.podsEvery, "pods-interval", agent.DefaultPodsEvery,
		"`TIME` between checks of the pods of this node")
	before(cmd, f.check)
	return runs(cmd, func(cmd *cobra.Command) error {
		ag, closes, err := a.agent(f)
		if err == nil {
			defer closes()
			err = ag.Run(cmd.Context())
		}
		if err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		return nil
	})
}

func (f *agentFlags) check() error {
	errs := []error{f.series.check()}
	if f.format != formatText && f.format != formatJSON {
		errs = append(errs, fmt.Errorf("--log-format: %q is not %s or %s", f.format, formatText, formatJSON))
	}
	if !slices.Contains(agent.Readinesses(), agent.Readiness(f.readyMeans)) {
		errs = append(errs, fmt.Errorf("--ready-means: %q is not %s or %s", f.readyMeans,
			agent.ReadyInstalled, agent.ReadyAccelerating))
	}
	if _, _, err := net.SplitHostPort(f.listen); f.listen != "" && err != nil {
		errs = append(errs, fmt.Errorf("--listen: %w", err))
	}
	intervals := map[string]time.Duration{
		"--reap-interval": f.reap, "--recheck-interval": f.recheck, "--pods-interval": f.podsEvery,
	}
	for flag, interval := range intervals {
		if interval < time.Second {
			errs = append(errs, fmt.Errorf("%s: %v is less than a second", flag, interval))
		}
	}
	return errors.Join(errs...)
}

// agent creates the agent. The caller calls closes after the agent has ended.
func (a *app) agent(f agentFlags) (ag *agent.Agent, closes func() error, err error) {
	log := slog.New(slog.NewTextHandler(a.stderr, nil))
	if f.format == formatJSON {
		log = slog.New(slog.NewJSONHandler(a.stderr, nil))
	}
	log.Info("agent begins", "version", version.String(), "entry", f.entry.String())
	for _, warning := range f.entry.Conf.Warnings {
		log.Warn(warning, "from", "--config")
	}
	node := a.node(admit.Settings(f.entry.Conf, nil))
	node.Log, node.SettingsCount = log, true
	ag = &agent.Agent{
		Installer: f.installer(), Node: node, Log: log, Listen: f.listen, Recheck: f.recheck, Reap: f.reap,
		ReadyMeans: agent.Readiness(f.readyMeans),
		Metrics:    a.collector(f.series, incomplete(log)),
	}
	ag.Installer.Log = log
	ag.Serving = func(address string) {
		log.Info("serving /metrics, /healthz and /readyz", "address", address)
	}
	if f.uninstallOnExit || f.uninstall {
		removal := f.removal.removal(a)
		removal.Node = node
		ag.Uninstall, ag.Uninstalling = &removal, f.uninstall
	}
	f.pods.confDir, f.pods.cacheDirs = ag.Installer.ConfDir, f.removal.cacheDirs
	if ag.Pods, closes, err = a.adopter(&f.pods, log); err != nil {
		return nil, nil, err
	}
	of := ag.Pods.Node
	ag.Pods.Node = func(conf *cniconf.Conf) *endpoint.Node {
		n := of(conf)
		n.NeverLoad = true
		return n
	}
	ag.Adopt, ag.PodsEvery = f.adopt, f.podsEvery
	return ag, closes, nil
}

// incomplete logs why scrapes are incomplete, the same reason at most once a minute, so that clients of the
// metrics cannot fill the log. Calls must not overlap.
func incomplete(log *slog.Logger) func(error) {
	var (
		last string
		next time.Time
	)
	return func(err error) {
		if errors.Is(err, datapath.ErrNotLoaded) || err.Error() == last && time.Now().Before(next) {
			return
		}
		last, next = err.Error(), time.Now().Add(time.Minute)
		log.Warn("a scrape is incomplete", "error", err)
	}
}
