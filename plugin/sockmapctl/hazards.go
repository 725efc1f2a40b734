// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/spf13/cobra"
)

// hazardsView is the result of the probes at the time of loading.
type hazardsView struct {
	Open    []string `json:"open" doc:"severe hazards that no guard cures; containers are declined unless all of them are accepted"`
	Guarded []string `json:"guarded" doc:"hazards that a guard cures"`
	Minor   []string `json:"minor" doc:"minor hazards, which do not prevent acceleration"`
}

func newHazardsView(cfg datapath.Config) hazardsView {
	present, guarded := hazard.Set(cfg.Hazards), hazard.Set(cfg.Guarded)
	left := present &^ guarded
	names := func(s hazard.Set) []string { return append([]string{}, s.Names()...) }
	return hazardsView{Open: names(left.Severe()), Guarded: names(guarded),
		Minor: names(left &^ left.Severe())}
}

// String is one line of a screen.
func (v hazardsView) String() string {
	var parts []string
	for _, p := range []struct {
		word  string
		names []string
	}{{"OPEN", v.Open}, {"guarded", v.Guarded}, {"minor", v.Minor}} {
		if len(p.names) > 0 {
			parts = append(parts, p.word+": "+strings.Join(p.names, ", "))
		}
	}
	if len(parts) == 0 {
		return "none known"
	}
	return strings.Join(parts, "; ")
}

// advice is empty when nothing is open.
func (v hazardsView) advice() string {
	if len(v.Open) == 0 {
		return ""
	}
	who := "acceptHazards, or their pod's annotation, names " + strings.Join(v.Open, ", ")
	if ofNode := hazard.SetOf(v.Open...).OfNode(); ofNode != 0 {
		who += " (" + ofNode.String() + " by acceptHazards only, not by annotation)"
	}
	return fmt.Sprintf("containers are accelerated only if %s; see: sockmapctl doctor", who)
}

// hazardNames is the flag --accept-hazards.
type hazardNames struct{ names []string }

func (n *hazardNames) flag(cmd *cobra.Command, usage string) {
	cmd.Flags().StringSliceVar(&n.names, "accept-hazards", nil, usage)
	before(cmd, func() error { return checkFlag("--accept-hazards", "acceptHazards", n.names) })
}

// guardNames is the flag --guards.
type guardNames struct{ names []string }

func (n *guardNames) flag(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&n.names, "guards", hazard.GuardNames(),
		"`NAMES` of the guards that may run; empty: none")
	mayBeEmpty(cmd, "guards")
	before(cmd, func() error { return checkFlag("--guards", "guards", n.names) })
}

func (n *guardNames) without() []string {
	conf := cniconf.Conf{Guards: n.names}
	return conf.GuardsOff()
}

func guardMeaning(name string) string {
	for _, g := range hazard.Guards {
		if g.Name == name {
			return g.Meaning
		}
	}
	return ""
}

// heldBack is a HazardError whose text names the flag that accepts the hazards.
type heldBack struct{ *endpoint.HazardError }

func (h heldBack) Unwrap() error { return h.HazardError }

func (h heldBack) Error() string {
	return fmt.Sprintf("this kernel has hazards that no guard cures here: %s (what they mean: "+
		"sockmapctl doctor; to attach anyway: --accept-hazards %s)",
		h.Hazards, strings.Join(h.Hazards.Names(), ","))
}

// sayHazards prints what the probes of a command have found.
func (a *app) sayHazards(verb string) error {
	d, err := datapath.Open(a.dir)
	if err != nil {
		return fmt.Errorf("%s: read hazards: %w", verb, err)
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		return fmt.Errorf("%s: read hazards: %w", verb, err)
	}
	if cfg.Disabled {
		if err := a.say("still disabled: all flows use TCP until: sockmapctl enable"); err != nil {
			return err
		}
	}
	v := newHazardsView(cfg)
	if err := a.say("hazards: %s", v); err != nil || len(v.Open) == 0 {
		return err
	}
	return a.say("%s", v.advice())
}
