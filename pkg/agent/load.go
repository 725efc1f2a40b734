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

// load loads the programs, or puts those of this version in the place of older ones. Of the errors, err says that nothing
// can be accelerated by this version, and stays why the programs of another version stay, which work. All are tried again.
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
		stays = err // ... and whoever uses it uses it with the plugin that is installed
	}
	if a.unloadedByHand(err) {
		a.health.set(partPrograms, nil)
		return nil, nil // nothing has failed: it is as somebody wanted it, and the next container loads
	}
	if err == nil && !errors.Is(stays, errNoPlugin) {
		_, errHelpers := a.Node.RefreshHelpers(ctx)
		a.report("helpers", errHelpers, "ports of conntrack helpers that were loaded since are accelerated like others")
	}
	a.health.set(partPrograms, cmp.Or(err, stays))
	a.report("load", withoutAge(err), "containers cannot be accelerated")
	return stays, err
}

// resizeAgain is how long after a failure the settings are left as they are loaded.
const resizeRetry = 10 * time.Minute

// resize brings maxSockets and guards of the configuration into force. The error is why they wait: nothing else does.
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

// logUpgrade tells what an upgrade has done.
func (a *Agent) logUpgrade(up endpoint.UpgradePlan) {
	if up.Done {
		a.log().Info("upgraded the programs", "from", up.From, "to", up.To, "change", string(up.Kind), "cgroups", up.Cgroups)
	}
}

// withoutSettings is the node for upgrades that leave size and guards as they are.
func (a *Agent) withoutSettings() *endpoint.Node {
	n := *a.Node
	n.SettingsCount = false
	return &n
}

func (a *Agent) planWithoutSettings(ctx context.Context) (endpoint.UpgradeKind, error) {
	up, err := a.withoutSettings().PlanUpgrade(ctx)
	return up.Kind, err
}

// logPostponed tells once that settings wait, and once that they do not any more. Nothing has failed.
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
	a.log().Warn("maxSockets or guards of the configuration are not in force yet, and all else goes on",
		"reason", up.Postponed)
}

// loadUnloaded loads where nothing is loaded.
func (a *Agent) loadUnloaded(ctx context.Context) (stays, err error) {
	stays = a.tryPlugin(ctx)
	a.report("plugin", stays, "nothing is loaded, and the plugin that is installed stays, which loads what it works with")
	if stays != nil {
		return stays, nil
	}
	loaded, err := a.Node.LoadUnlessUnloaded(ctx)
	if loaded {
		a.logLoaded()
	}
	return nil, err
}

// withoutAge is a failure that is remembered in the same words each time, so that it is told once.
func withoutAge(err error) error {
	var before *endpoint.LoadFailedError
	if errors.As(err, &before) {
		return fmt.Errorf("%w: %s", endpoint.ErrLoadFailed, before.Reason)
	}
	return err
}

// unloadedByHand tells once that a person has unloaded what this agent would load, and once that it is over.
func (a *Agent) unloadedByHand(err error) bool {
	const subject = "unloaded by hand"
	unloaded := errors.Is(err, endpoint.ErrUnloadedByHand)
	switch {
	case unloaded && a.reported.changed(subject, err.Error()):
		a.log().Warn("the programs are not loaded until a container is added or somebody asks for it", "reason", err)
	case !unloaded && a.reported.changed(subject, ""):
		a.log().Info("resolved", "subject", subject)
	}
	return unloaded
}

var errNoPlugin = errors.New("the plugin of this version cannot be installed")

// tryPlugin returns why programs of this version must not come: its plugin cannot be run in its place, and the one that is
// there, which may be of another ABI, goes on to be called. Without one that is there nothing can go wrong.
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

// upgrade does what was planned. It returns why the programs that are loaded stay.
func (a *Agent) upgrade(ctx context.Context, planned endpoint.UpgradePlan) error {
	if err := a.tryPlugin(ctx); err != nil {
		return a.reportUpgrade(planned, err)
	}
	up, err := a.withoutSettings().Upgrade(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		err = nil // unloaded meanwhile: the next round loads
	}
	a.logUpgrade(up)
	return a.reportUpgrade(planned, err)
}

// reportUpgrade reports why an upgrade was not done, or that it was.
func (a *Agent) reportUpgrade(up endpoint.UpgradePlan, err error) error {
	if err != nil {
		err = fmt.Errorf("upgrade from %s to %s: %w", up.From, up.To, err)
	}
	a.report("upgrade", err, "the programs that are loaded stay, and so does the plugin that is installed")
	return err
}

// logLoaded tells what the probes have found.
func (a *Agent) logLoaded() {
	a.log().Info("loaded the programs", "bpffsPath", a.Node.Dir)
	for _, p := range a.Node.Parts(a.Installer.Entry.Conf.HazardsAccepted()...) {
		var open *endpoint.HazardError
		if errors.As(p.Err, &open) {
			a.log().Warn("containers are declined because of hazards of this kernel, unless they are accepted; see: sockmapctl doctor",
				"hazards", open.Hazards.String())
		}
	}
}
