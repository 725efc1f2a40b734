// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// load loads the programs, or puts those of this version in the place of older ones. That it cannot do the latter is told and
// tried again: what is loaded works.
func (a *Agent) load(ctx context.Context) error {
	up, err := a.Node.PlanUpgrade(ctx)
	switch {
	case errors.Is(err, datapath.ErrNotLoaded):
		var loaded bool
		if loaded, err = a.Node.LoadUnlessUnloaded(ctx); loaded {
			a.loaded()
		}
	case errors.Is(err, endpoint.ErrDowngrade):
		a.report("upgrade", err, "the newer programs stay")
		err = nil
	case err == nil && up.Change != endpoint.ChangeNone:
		a.upgrade(ctx)
	}
	if a.unloadedByHand(err) {
		a.health.set(partPrograms, nil)
		return nil // nothing has failed: it is as somebody wanted it, and the next container loads
	}
	if err == nil {
		_, errHelpers := a.Node.RefreshHelpers(ctx)
		a.report("helpers", errHelpers, "ports of conntrack helpers that were loaded since are accelerated like others")
	}
	a.health.set(partPrograms, err)
	a.report("load", err, "containers cannot be accelerated")
	return err
}

// unloadedByHand tells once that a person has unloaded what this agent would load, and once that it is over.
func (a *Agent) unloadedByHand(err error) bool {
	const subject = "unloaded by hand"
	unloaded := errors.Is(err, endpoint.ErrUnloadedByHand)
	switch {
	case unloaded && a.reported[subject] == "":
		a.reported[subject] = err.Error()
		a.log().Warn("the programs are not loaded until a container is added or somebody asks for it", "reason", err)
	case !unloaded && a.reported[subject] != "":
		a.reported[subject] = ""
		a.log().Info("resolved", "subject", subject)
	}
	return unloaded
}

func (a *Agent) upgrade(ctx context.Context) {
	up, err := a.Node.Upgrade(ctx)
	a.report("upgrade", err, "the programs that are loaded stay")
	if up.Done {
		a.log().Info("upgraded the programs", "from", up.From, "to", up.To, "change", string(up.Change), "cgroups", up.Cgroups)
	}
}

// loaded tells what the probes have found.
func (a *Agent) loaded() {
	a.log().Info("loaded the programs", "bpffsPath", a.Node.Dir)
	d, err := datapath.Open(a.Node.Dir)
	if err != nil {
		return
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		return
	}
	open := (hazard.Set(cfg.Hazards) &^ hazard.Set(cfg.Guarded)).Severe() &^ hazard.SetOf(a.Installer.Entry.Conf.HazardsAccepted()...)
	if open != 0 {
		a.log().Warn("containers are declined because of hazards of this kernel, unless they are accepted; see: sockmapctl doctor",
			"hazards", open.String())
	}
}
