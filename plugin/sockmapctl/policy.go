// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

// policyView is the policy in force for one pod.
type policyView struct {
	Namespace string           `json:"namespace" doc:"namespace of the pod; empty when the runtime does not report it"`
	Pod       string           `json:"pod" doc:"name of the pod"`
	Container string           `json:"container" doc:"id of the pod sandbox"`
	Parts     []policyPartView `json:"parts" doc:"the policy in force, one element for each key"`
	Pending   []string         `json:"pending" doc:"changes of the configuration that are not in force yet; the agent, or sockmapctl adopt, applies them"`
}

type policyPartView struct {
	Key   string   `json:"key" doc:"key of the entry, see CONFIGURATION.md"`
	Value string   `json:"value" doc:"value in force"`
	From  []string `json:"from" doc:"sources of the value: entries of networks, annotations, or sockmapctl disable"`
}

func policyCommand(a *app) *cobra.Command {
	var f podFlags
	cmd := a.withList(&cobra.Command{
		Use:   "policy [POD...]",
		Short: "Show the policy in force for pods, and the source of each part",
		Long: `Shows the policy in force for each pod that the plugin was called for, or that
was adopted: whether it is accelerated, its peers and ports, and the hazards
that it accepts. Each part has its source: the entry of a network, an
annotation, or sockmapctl disable. Changes of the configuration that no agent
has applied yet are listed below.

A POD is NAMESPACE/NAME, a name, or the beginning of a sandbox ID.`,
		Example: `  sockmapctl policy
  sockmapctl policy shop/db-0 -o json | jq '.items[].parts[] | select(.key == "peers")'`,
	})
	f.flags(a, cmd)
	runs(cmd, func(cmd *cobra.Command) error {
		if err := a.policy(cmd, &f, cmd.Flags().Args()); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
		return nil
	})
	cmd.Args = cobra.ArbitraryArgs
	return cmd
}

func (a *app) policy(cmd *cobra.Command, f *podFlags, names []string) error {
	ad, closes, err := a.adopter(f, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer closes()
	if !a.isLoaded() {
		_, err := datapath.Open(a.dir)
		return err
	}
	wanted := newPodNames(names)
	found, err := ad.Policies(cmd.Context(), wanted.has)
	errs := errors.Join(err, wanted.missing())
	if len(found) == 0 && errs != nil {
		return errs
	}
	views := make([]policyView, 0, len(found))
	for _, p := range found {
		views = append(views, newPolicyView(p))
	}
	return errors.Join(printList(a, listing[policyView]{
		kind: "Policy", items: views, table: func() *term.Table { return policyTable(views) },
		name: (*policyView).name,
	}), errs)
}

func newPolicyView(p adopt.Policy) policyView {
	v := policyView{p.Pod.Namespace, p.Pod.Name, p.Pod.ID, []policyPartView{},
		append([]string{}, p.Pending...)}
	for _, part := range p.Parts {
		v.Parts = append(v.Parts, policyPartView{part.Key, part.Value, append([]string{}, part.From...)})
	}
	return v
}

// name is the pod's name, or the first letters of its sandbox's id.
func (v *policyView) name() string {
	if v.Pod == "" {
		return live.ShortID(v.Container)
	}
	return live.PodName(v.Namespace, v.Pod)
}

func policyTable(views []policyView) *term.Table {
	t := &term.Table{Columns: []term.Column{{Title: "POD", Min: 16}, {Title: "KEY"},
		{Title: "IN FORCE", Min: 8}, {Title: "FROM", Min: 20}}}
	for _, v := range views {
		pod := v.name()
		for i, p := range v.Parts {
			if i > 0 {
				pod = ""
			}
			t.Add(pod, p.Key, p.Value, strings.Join(p.From, "; "))
		}
		for _, pending := range v.Pending {
			t.Add("", "", "", "not in force yet: "+pending)
		}
	}
	return t
}
