// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// load loads the programs, or puts those of this version in the place of older ones. That it cannot do the latter is told and
// tried again: what is loaded works.
func (a *Agent) load(ctx context.Context) error {
	up, err := a.Node.PlanUpgrade(ctx)
	switch {
	case errors.Is(err, datapath.ErrNotLoaded):
		var loaded bool
		if loaded, err = a.Node.Load(ctx); loaded {
			a.loaded()
		}
	case errors.Is(err, endpoint.ErrDowngrade):
		a.report("upgrade", err, "the newer programs stay")
		err = nil
	case err == nil && up.Change != endpoint.ChangeNone:
		a.upgrade(ctx)
	}
	if err == nil {
		_, errHelpers := a.Node.RefreshHelpers(ctx)
		a.report("helpers", errHelpers, "ports of conntrack helpers that were loaded since are accelerated like others")
	}
	a.health.set(partPrograms, err)
	a.report("load", err, "containers cannot be accelerated")
	return err
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
	for _, p := range a.Node.Parts(a.Installer.Entry.Conf.HazardsAccepted()...) {
		var open *endpoint.HazardError
		if errors.As(p.Err, &open) {
			a.log().Warn("containers are declined because of hazards of this kernel, unless they are accepted; see: sockmapctl doctor",
				"hazards", open.Hazards.String())
		}
	}
}
