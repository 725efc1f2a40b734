// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/admit"
	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

// podFlags name the sources of this node's pods.
type podFlags struct {
	cri, confDir string
	kubelet      string
	tokenFile    string
	cacheDirs    []string
}

func (f *podFlags) flags(a *app, cmd *cobra.Command) {
	f.criFlag(a, cmd)
	flags := cmd.Flags()
	flags.StringSliceVar(&f.cacheDirs, "cni-cache-dir", []string{install.DefaultCacheDir},
		"`DIR` where runtimes keep the results of plugins")
	flags.StringVar(&f.confDir, "cni-conf-dir", a.confDir(), "`DIR` of network configurations")
	before(cmd, func() error { return absolute("--cni-conf-dir", f.confDir) })
}

// kubeletVariable is the default of --kubelet, for commands in the agent's container.
const kubeletVariable = "SOCKMAP_KUBELET"

const defaultToken = "/var/run/secrets/sockmap/token"

func (f *podFlags) criFlag(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.cri, "cri", "",
		"`SOCKET` of the container runtime (default: that of containerd, k3s or CRI-O; none: do not ask)")
	cmd.Flags().StringVar(&f.kubelet, "kubelet", a.getenv(kubeletVariable),
		"`ADDRESS` of the node's kubelet, like 127.0.0.1:10250, which knows changed annotations; "+
			"empty: do not ask")
	mayBeEmpty(cmd, "kubelet")
	cmd.Flags().StringVar(&f.tokenFile, "kubelet-token", defaultToken,
		"`FILE` with the service account's token for it")
}

const noCRI = "none"

// adopter returns an Adopter that reads the sources that the flags name. The caller calls closes.
func (a *app) adopter(f *podFlags, log *slog.Logger) (ad *adopt.Adopter, closes func() error, err error) {
	sources := pods.Sources{Caches: f.cacheDirs, Named: pods.DefaultNamed}
	closes = func() error { return nil }
	socket, ask := f.cri, f.cri != noCRI
	if socket == "" {
		socket, ask = pods.FindSocket() // a host without Kubernetes has none
	}
	if ask {
		if sources.CRI, err = pods.DialCRI(socket); err != nil {
			return nil, closes, err
		}
		closes = sources.CRI.Close
	}
	if f.kubelet != "" {
		if sources.Kubelet, err = pods.NewKubelet(f.kubelet, f.tokenFile); err != nil {
			return nil, closes, fmt.Errorf("--kubelet: %w", err)
		}
	}
	ad = &adopt.Adopter{
		Find:  sources.Find,
		Confs: func() ([]*cniconf.Conf, error) { return install.ValidEntries(f.confDir) },
		Node: func(conf *cniconf.Conf) *endpoint.Node {
			n := a.node(admit.Settings(conf, nil))
			n.Dir, n.Log = conf.BPFFSPath, log
			return n
		},
		Log: log,
	}
	if sources.CRI != nil {
		ad.Runs = sources.CRI.Runs
	}
	return ad, closes, nil
}

// standingView is the status of one pod of the node.
type standingView struct {
	Namespace string `json:"namespace" doc:"namespace of the pod; empty when the runtime does not report it"`
	Pod       string `json:"pod" doc:"name of the pod"`
	Container string `json:"container" doc:"id of the pod sandbox"`
	State     string `json:"state" doc:"accelerated, declined, opted-out or left-out"`
	Reason    string `json:"reason" doc:"why the pod is not accelerated, as METRICS.md names it; empty when it is accelerated"`
	Detail    string `json:"detail" doc:"the reason in words; may be empty"`
	Adopted   bool   `json:"adopted" doc:"this call adopted the pod"`
	From      string `json:"from" doc:"source of the pod: CRI, the cache of libcni, or processes"`
}

func newStandingView(s adopt.PodStatus) standingView {
	return standingView{s.Namespace, s.Name, s.ID, string(s.State), s.Reason, s.Detail, s.Adopted, s.From}
}

func adoptCommand(a *app) *cobra.Command {
	var (
		f           podFlags
		all, dryRun bool
	)
	cmd := a.withOutput(&cobra.Command{
		Use:   "adopt {POD... | --all} [--dry-run]",
		Short: "Accelerate pods that ran before the plugin was installed",
		Long: `Accelerates running pods as their ADD would have done: with an attachment under
the same key, a link, and the policy of their network's entry and annotations.
Existing connections stay as they are; new ones are accelerated. Pods that have
opted out or were declined stay as they are. If the entry or the annotations of
a pod have changed since its ADD, the new policy is applied.

containerd removes the attachment with the pod. CRI-O and podman remove a pod by
the network configuration of its ADD, without the plugin: there the next ADD,
the agent or gc removes the attachment of a pod that is gone.

A POD is NAMESPACE/NAME, a name, or the beginning of a sandbox ID. Names and
annotations come from the container runtime's CRI socket and from libcni's
cache. Without a CRI socket, network namespaces of processes can be named, too;
--all leaves them out.`,
		Example: `  sockmapctl adopt --all --dry-run
  sockmapctl adopt shop/web-7d9c5 shop/db-0`,
	}, formatsOfObject...)
	f.flags(a, cmd)
	cmd.Flags().BoolVar(&all, "all", false, "every pod of this node that a runtime or libcni's cache knows")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be done, and change nothing")
	runs(cmd, func(cmd *cobra.Command) error { return a.adopt(cmd.Context(), &f, cmd.Flags().Args(), dryRun) })
	cmd.Args = func(_ *cobra.Command, names []string) error {
		if all == (len(names) > 0) {
			return errors.New("name pods, or give --all")
		}
		return nil
	}
	return cmd
}

func (a *app) adopt(ctx context.Context, f *podFlags, names []string, dryRun bool) error {
	ad, closes, err := a.adopter(f,
		slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	defer closes()
	if confs, err := ad.Confs(); len(confs) == 0 {
		if err != nil {
			return fmt.Errorf("adopt: %w", err)
		}
		return fmt.Errorf("adopt: no network in %s has sockmap in its list (see: sockmapctl install)",
			f.confDir)
	}
	wanted := newPodNames(names)
	act := ad.Adopt
	if dryRun {
		act = ad.StatusOf
	}
	found, err := act(ctx, wanted.has)
	if errs := errors.Join(err, wanted.missing()); errs != nil {
		err = fmt.Errorf("adopt: %w", errs)
	}
	if err != nil && len(found) == 0 {
		return err
	}
	errs := errors.Join(a.printStandings(found, dryRun), err, failedAdoptions(found, dryRun))
	// An agent does so without this command, and may know more: the kubelet's annotations.
	if !dryRun && install.ClaimHolder(f.confDir) == "" {
		errs = errors.Join(errs, a.follow(ctx, ad, wanted))
	}
	return errs
}

// follow applies changes of the pods' configuration, as the agent does.
func (a *app) follow(ctx context.Context, ad *adopt.Adopter, wanted *podNames) error {
	changes, err := ad.Follow(ctx, wanted.has)
	if len(wanted.names) == 0 {
		settings, errSettings := ad.FollowSettings(ctx)
		err = errors.Join(err, errSettings)
		if len(settings) > 0 {
			changes = append(changes, adopt.Change{What: settings})
		}
	}
	if err != nil {
		err = fmt.Errorf("adopt: follow the configuration: %w", err)
	}
	to := a.stdout
	if a.isDocument() {
		to = a.stderr // standard output has the pods, and nothing else
	}
	for _, c := range changes {
		fmt.Fprintf(to, "changed: %s: %s\n", term.Printable(changedName(c)), strings.Join(c.What, "; "))
	}
	return err
}

func changedName(c adopt.Change) string {
	if c.Pod.ID == "" {
		return "settings of this node"
	}
	return "pod " + c.Pod.String()
}

// failedAdoptions returns an error if a pod that can be adopted was not.
func failedAdoptions(all []adopt.PodStatus, dryRun bool) error {
	failed := 0
	for _, s := range all {
		if !dryRun && s.Reason == adopt.ReasonOlder {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("adopt: %d pods were not adopted", failed)
	}
	return nil
}

func (a *app) printStandings(all []adopt.PodStatus, dryRun bool) error {
	views := make([]standingView, 0, len(all))
	for _, s := range all {
		views = append(views, newStandingView(s))
	}
	if a.isDocument() {
		return printList(a, listing[standingView]{kind: "PodStatus", items: views})
	}
	t := &term.Table{Columns: []term.Column{
		{Title: "POD", Min: 20}, {Title: "SANDBOX", Drop: 1}, {Title: "STATE"}, {Title: "WHY", Min: 16},
	}}
	adopted, could := 0, 0
	for i, v := range views {
		state := v.State
		if v.Adopted {
			adopted++
		}
		if v.Adopted && v.State == string(adopt.Accelerated) {
			state = "adopted"
		}
		if v.Reason == adopt.ReasonOlder {
			could++
		}
		why := v.Reason
		if v.Detail != "" && v.Detail != v.Reason {
			why += ": " + v.Detail
		}
		t.Add(all[i].String(), live.ShortID(v.Container), state, strings.TrimPrefix(why, ": "))
	}
	if err := a.printTable(t); err != nil {
		return err
	}
	if dryRun {
		return a.say("%d of %d pods would be adopted", could, len(views))
	}
	return a.say("adopted %d of %d pods", adopted, len(views))
}

// podNames are the pods on the command line; none means all.
type podNames struct {
	names []string
	found map[string]bool
}

func newPodNames(names []string) *podNames { return &podNames{names, map[string]bool{}} }

func (n *podNames) has(p pods.Pod) bool {
	has := len(n.names) == 0 && p.From != pods.FromProcesses
	for _, name := range n.names {
		if (podID{p.Namespace, p.Name, p.ID}).is(name) {
			n.found[name], has = true, true
		}
	}
	return has
}

// leastID is the least number of letters of an id that must be given.
const leastID = 6

func (n *podNames) missing() error {
	var errs []error
	for _, name := range n.names {
		if !n.found[name] {
			errs = append(errs,
				fmt.Errorf("no pod %q runs on this node (see: sockmapctl adopt --all --dry-run)", name))
		}
	}
	return errors.Join(errs...)
}
