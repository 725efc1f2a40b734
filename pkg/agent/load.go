// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// load loads the programs, or upgrades them to this version. err says why this version cannot accelerate
// anything. stays says why working programs of another version stay loaded. Both are tried again.
func (a *Agent) load(ctx context.Context) (stays, err error) {
	up, err := a.Node.PlanUpgrade(ctx)
	if err == nil && up.Kind == endpoint.UpgradeSettings {
		if up.Postponed = a.resize(ctx); up.Postponed == nil {
			up, err = a.Node.PlanUpgrade(ctx)
		} else {
			up.Kind, err = a.planWithoutSettings(ctx)
		}
	}
	a.logPostponed(up)
	switch {
	case errors.Is(err, datapath.ErrNotLoaded):
		stays, err = a.loadUnloaded(ctx)
	case errors.Is(err, endpoint.ErrDowngrade):
		a.report("upgrade", err, "the newer programs stay")
		err = nil
	case err != nil && up.Kind == endpoint.UpgradePrograms: // of this ABI, and they work
		stays, err = a.reportUpgrade(up, err), nil
	case err == nil && up.Kind != endpoint.UpgradeNone:
		stays = a.upgrade(ctx, up)
	case errors.Is(err, datapath.ErrForeignState):
		stays = err // the installed plugin uses that state
	}
	if a.unloadedOnRequest(err) {
		a.health.set(partPrograms, nil)
		return nil, nil // a user wanted it so, and the next container loads the programs
	}
	if err == nil && !errors.Is(stays, errNoPlugin) {
		_, errHelpers := a.Node.RefreshHelpers(ctx)
		a.report("helpers", errHelpers, "conntrack helpers that were loaded since are not taken into account, "+
			"and their ports are accelerated")
	}
	a.health.set(partPrograms, cmp.Or(err, stays))
	a.report("load", withoutAge(err), "containers cannot be accelerated")
	return stays, err
}

// resizeRetry is how long the settings stay as they are loaded after a failure.
const resizeRetry = 10 * time.Minute

// resize applies maxSockets and guards of the configuration. It returns why they have to wait. Nothing else
// waits for them.
func (a *Agent) resize(ctx context.Context) error {
	if time.Now().Before(a.resizeNext) {
		return a.resizeWhy
	}
	err := a.tryPlugin(ctx)
	var up endpoint.UpgradePlan
	if err == nil {
		up, err = a.Node.Upgrade(ctx)
	}
	if err != nil {
		a.resizeWhy, a.resizeNext = err, time.Now().Add(resizeRetry)
		return err
	}
	a.logUpgrade(up)
	return up.Postponed
}

// logUpgrade logs what an upgrade has done.
func (a *Agent) logUpgrade(up endpoint.UpgradePlan) {
	if up.Done {
		a.log().Info("upgraded the programs", "from", up.From, "to", up.To, "change", string(up.Kind), "cgroups",
			up.Cgroups)
	}
}

// withoutSettings returns the node for upgrades that do not change size and guards.
func (a *Agent) withoutSettings() *endpoint.Node {
	n := *a.Node
	n.SettingsCount = false
	return &n
}

func (a *Agent) planWithoutSettings(ctx context.Context) (endpoint.UpgradeKind, error) {
	up, err := a.withoutSettings().PlanUpgrade(ctx)
	return up.Kind, err
}

// logPostponed logs once that settings have to wait, and once that they do not any more. Neither is a
// failure.
func (a *Agent) logPostponed(up endpoint.UpgradePlan) {
	waits := ""
	if up.Postponed != nil {
		waits = "yes"
	}
	if !a.reported.changed("settings", waits) {
		return
	}
	if waits == "" {
		a.log().Info("resolved", "subject", "settings")
		return
	}
	a.log().Warn("maxSockets or guards of the configuration are not in force yet; everything else continues",
		"reason", up.Postponed)
}

// loadUnloaded loads the programs if nothing is loaded.
func (a *Agent) loadUnloaded(ctx context.Context) (stays, err error) {
	stays = a.tryPlugin(ctx)
	a.report("plugin", stays, "nothing is loaded; the installed plugin stays, and loads the programs of its "+
		"own version")
	if stays != nil {
		return stays, nil
	}
	loaded, err := a.Node.LoadUnlessUnloaded(ctx)
	if loaded {
		a.logLoaded()
	}
	return nil, err
}

// withoutAge removes the age from a recorded failure, so that it has the same text each time and is logged
// once.
func withoutAge(err error) error {
	var before *endpoint.LoadFailedError
	if errors.As(err, &before) {
		return fmt.Errorf("%w: %s", endpoint.ErrLoadFailed, before.Reason)
	}
	return err
}

// unloadedOnRequest logs once that a user has unloaded the programs, and once that this is over.
func (a *Agent) unloadedOnRequest(err error) bool {
	const subject = "unloaded"
	unloaded := errors.Is(err, endpoint.ErrUnloadedOnRequest)
	switch {
	case unloaded && a.reported.changed(subject, err.Error()):
		a.log().Warn("the programs are not loaded until a container is added or somebody asks for it", "reason",
			err)
	case !unloaded && a.reported.changed(subject, ""):
		a.log().Info("resolved", "subject", subject)
	}
	return unloaded
}

var errNoPlugin = errors.New("the plugin of this version cannot be installed")

// tryPlugin returns an error if programs of this version must not be loaded, because the plugin of this
// version cannot run in its place: the installed one, which may be of another ABI, would still be called. If
// none is installed, nothing can go wrong.
func (a *Agent) tryPlugin(ctx context.Context) error {
	there, err := a.Installer.HasPlugin()
	if err == nil && there {
		err = a.Installer.TryBinary(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoPlugin, err)
	}
	return nil
}

// upgrade does what was planned. It returns why the loaded programs stay.
func (a *Agent) upgrade(ctx context.Context, planned endpoint.UpgradePlan) error {
	if err := a.tryPlugin(ctx); err != nil {
		return a.reportUpgrade(planned, err)
	}
	up, err := a.withoutSettings().Upgrade(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		err = nil // unloaded meanwhile; the next round loads
	}
	a.logUpgrade(up)
	return a.reportUpgrade(planned, err)
}

// reportUpgrade reports why an upgrade failed, or that it succeeded.
func (a *Agent) reportUpgrade(up endpoint.UpgradePlan, err error) error {
	if err != nil {
		err = fmt.Errorf("upgrade from %s to %s: %w", up.From, up.To, err)
	}
	a.report("upgrade", err, "the loaded programs and the installed plugin stay")
	return err
}

// logLoaded logs what the probes have found.
func (a *Agent) logLoaded() {
	a.log().Info("loaded the programs", "bpffsPath", a.Node.Dir)
	for _, p := range a.Node.Parts(a.Installer.Entry.Conf.HazardsAccepted()...) {
		var open *endpoint.HazardError
		if errors.As(p.Err, &open) {
			a.log().Warn("containers are declined because of hazards of this kernel, unless they are accepted; see: "+
				"sockmapctl doctor",
				"hazards", open.Hazards.String())
		}
	}
}
