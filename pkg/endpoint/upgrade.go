// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
)

// UpgradeKind is how much an upgrade has to replace.
type UpgradeKind string

const (
	// UpgradeNone: this program would load what is loaded.
	UpgradeNone UpgradeKind = "none"
	// UpgradeVersion: the version differs, the programs do not. Only the version is recorded.
	UpgradeVersion UpgradeKind = "version"
	// UpgradeProbes: the programs are the same, but the hazards were found by other probes. The probes run
	// again.
	UpgradeProbes UpgradeKind = "probes"
	// UpgradePrograms: other programs take over the maps, and with them all live flows.
	UpgradePrograms UpgradeKind = "programs"
	// UpgradeSettings: maps of another size, or other guards, are loaded beside the current ones. Live flows
	// stay with the old ones until they close.
	UpgradeSettings UpgradeKind = "settings"
	// UpgradeMaps: other programs and other maps are loaded beside the current ones. Live flows stay with the
	// old ones until they close.
	UpgradeMaps UpgradeKind = "maps"
)

// UpgradePlan is what an upgrade will do, or has done.
type UpgradePlan struct {
	Kind           UpgradeKind
	From, To       string // versions; they may differ although the programs do not
	FromABI, ToABI uint32
	Done           bool
	// Postponed says why settings with SettingsCount cannot be applied now, see datapath.CanResize. nil: they
	// can be, or they are in force.
	Postponed error
	Cgroups   int // number of cgroups that run the new programs, once Done
}

// ErrDowngrade: a newer version is loaded. See DowngradeError.
var ErrDowngrade = errors.New("downgrade refused")

// DowngradeError says which version is loaded. It is an ErrDowngrade.
type DowngradeError struct{ Loaded, Own string }

func (e *DowngradeError) Error() string {
	return fmt.Sprintf("%s: version %s is loaded, this is %s (use that version's program, or downgrade "+
		"nevertheless with: sockmapctl upgrade --force)", ErrDowngrade, e.Loaded, e.Own)
}

// Is makes every DowngradeError an ErrDowngrade.
func (e *DowngradeError) Is(target error) bool { return target == ErrDowngrade }

// PlanUpgrade returns what Upgrade would do now, and the same errors. It changes nothing and takes no lock.
func (n *Node) PlanUpgrade(_ context.Context) (UpgradePlan, error) {
	up, _, err := n.plan(false)
	return up, err
}

// Upgrade replaces the loaded programs by those of this version, Settings.Version, under the lock. Live flows
// lose nothing. Probes that are necessary run before it takes the lock. It does nothing if the same programs
// are loaded. datapath.Takeover says which settings it applies. Add never upgrades.
//
// It returns datapath.ErrNotLoaded if nothing is loaded, an ErrDowngrade if a newer version is loaded, a
// datapath.StateError for state that this version cannot take over, and datapath.ErrGuardLost. Then it has
// changed nothing. After any other error the loaded programs work, and the next Upgrade completes the work.
func (n *Node) Upgrade(ctx context.Context) (UpgradePlan, error) { return n.upgrade(ctx, false) }

// ForceUpgrade is Upgrade that also downgrades within one ABI, and that gives up guards which cannot be
// loaded any more.
func (n *Node) ForceUpgrade(ctx context.Context) (UpgradePlan, error) { return n.upgrade(ctx, true) }

func (n *Node) plan(force bool) (up UpgradePlan, old *datapath.Old, err error) {
	up = UpgradePlan{To: n.Settings.Version, ToABI: datapath.ABI}
	d, err := datapath.Open(n.Dir)
	var foreign *datapath.StateError
	if errors.As(err, &foreign) && foreign.Older {
		found, ok, err := datapath.ReadOld(n.Dir)
		if err != nil {
			return up, nil, err
		}
		if !ok {
			return up, nil, foreign
		}
		up.Kind, up.From, up.FromABI = UpgradeMaps, found.Version, found.ABI
		return up, &found, nil
	}
	if err != nil {
		return up, nil, err
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		return up, nil, err
	}
	up.From, up.FromABI = cfg.Version, datapath.ABI
	order, _ := version.Compare(up.To, up.From)
	if n.SettingsCount && (order >= 0 || force) {
		differ, err := n.settingsDiffer(d, cfg)
		if err != nil {
			return up, nil, err
		}
		if differ {
			up.Postponed = d.CanResize()
		}
		if differ && up.Postponed == nil {
			up.Kind = UpgradeSettings
			return up, nil, nil
		}
	}
	switch same := d.Digest() == datapath.Digest(); {
	case same && order >= 0 && n.probesDiffer(d):
		up.Kind = UpgradeProbes
	case same && (up.From == up.To || order < 0):
		up.Kind = UpgradeNone
	case order < 0 && !force:
		return up, nil, &DowngradeError{up.From, up.To}
	case same:
		up.Kind = UpgradeVersion
	default:
		up.Kind = UpgradePrograms
		return up, nil, d.CheckMaps()
	}
	return up, nil, nil
}

// settingsDiffer reports whether settings that need new maps or programs differ from those that are loaded.
func (n *Node) settingsDiffer(d *datapath.Datapath, cfg datapath.Config) (bool, error) {
	if cfg.MaxSockets != n.Settings.MaxSockets {
		return true, nil
	}
	states, err := d.GuardStates()
	for _, g := range states {
		if slices.Contains(n.Settings.WithoutGuards, g.Name) != g.SwitchedOff() {
			return true, nil
		}
	}
	return false, err
}

// maxProbeRuns bounds how often an upgrade runs the probes because the loaded state changed meanwhile.
const maxProbeRuns = 3

// upgrade runs the probes before it takes the lock: they take seconds, for which ADDs would wait.
func (n *Node) upgrade(ctx context.Context, force bool) (up UpgradePlan, err error) {
	for range maxProbeRuns {
		known := probeResult{}
		if q := n.plannedProbeRequest(force); q.needed {
			if known, err = n.runProbes(ctx, q); err != nil {
				return UpgradePlan{}, err
			}
		}
		var again bool
		if up, again, err = n.upgradeWith(ctx, force, known); !again {
			return up, err
		}
	}
	return up, fmt.Errorf("%w: the loaded programs were changed each time while the probes ran", ErrBusy)
}

// plannedProbeRequest returns what an upgrade has to probe. If nothing can be planned, it probes nothing, and
// the upgrade reports the error once it has the lock.
func (n *Node) plannedProbeRequest(force bool) probeRequest {
	up, _, err := n.plan(force)
	if err != nil {
		return probeRequest{}
	}
	q, err := n.probeRequestFor(up.Kind)
	if err != nil {
		return probeRequest{}
	}
	return q
}

// upgradeWith upgrades with the result of the probes. again is true if the result is for another request, so
// that the probes have to run again.
func (n *Node) upgradeWith(ctx context.Context, force bool,
	known probeResult) (up UpgradePlan, again bool, err error) {
	locked, err := n.lockDir(ctx, false)
	if err != nil {
		return UpgradePlan{}, false, err
	}
	n = n.withDir(locked)
	s := &session{Node: n, dir: locked}
	defer s.end()
	if err := s.tidy(); err != nil {
		return UpgradePlan{}, false, err
	}
	up, old, err := n.plan(force)
	if err != nil || up.Kind == UpgradeNone {
		return up, false, err
	}
	q, err := n.probeRequestFor(up.Kind)
	if err != nil {
		return up, false, err
	}
	if q.needed && q != known.probeRequest {
		return up, true, nil
	}
	up.Cgroups, err = s.applyUpgrade(up.Kind, old, force, known)
	up.Done = err == nil
	if err != nil || up.Kind != UpgradeMaps && up.Kind != UpgradeSettings {
		return up, false, err
	}
	// New maps do not have the helpers yet. rearmReplaced has opened the maps.
	_, err = s.applyHelpers()
	return up, false, err
}

// applyUpgrade does what was planned. Afterwards the session has the state in force open.
func (s *session) applyUpgrade(change UpgradeKind, old *datapath.Old, force bool,
	known probeResult) (cgroups int, err error) {
	how := s.upgradeSteps()
	how.LoseGuards = force
	if change == UpgradeMaps {
		if how.Probe != nil {
			how.Probe = known.repeat
		}
		if cgroups, err = datapath.Replace(s.Dir, *old, how); err != nil {
			return cgroups, err
		}
		return cgroups, s.rearmReplaced()
	}
	if s.d, err = datapath.Open(s.Dir); err != nil {
		return 0, err
	}
	if change == UpgradeSettings {
		if err := s.d.Close(); err != nil {
			return 0, err
		}
		if how.Probe != nil {
			how.Probe = known.repeat
		}
		if cgroups, err = datapath.Resize(s.Dir, how); err != nil {
			return cgroups, err
		}
		// If no flow is live, this removes the old state.
		return cgroups, errors.Join(s.rearmReplaced(), s.tidy())
	}
	if change == UpgradeVersion {
		if err := s.step("version"); err != nil {
			return 0, err
		}
		return 0, s.d.SetVersion(s.Settings.Version)
	}
	if change == UpgradeProbes {
		return 0, s.setProbed(known.hazards, known.guarded)
	}
	how.Hazards, how.Guarded = known.hazards, known.guarded
	if s.Settings.Probe == nil {
		now, err := s.d.Config()
		if err != nil {
			return 0, err
		}
		how.Hazards, how.Guarded, how.ProbeSet = now.Hazards, now.Guarded, s.d.ProbeSet() // they stay valid
	}
	return s.d.Upgrade(how)
}

func (s *session) upgradeSteps() datapath.Takeover {
	return datapath.Takeover{Settings: s.Settings, Open: s.openCgroupID, Step: s.step}
}

// openCgroupID opens a cgroup by its ID. It returns fs.ErrNotExist if the cgroup is gone. The caller closes
// the directory.
func (n *Node) openCgroupID(id uint64) (*os.File, error) {
	mount, err := n.findMount()
	if err != nil {
		return nil, err
	}
	path, err := cgroup.PathOf(mount, id)
	if err != nil {
		return nil, err
	}
	dir, found, err := cgroup.Open(path)
	if err != nil {
		return nil, err
	}
	if found != id {
		dir.Close()
		return nil, fmt.Errorf("cgroup %d: %w", id, fs.ErrNotExist) // another cgroup has its path now
	}
	return dir, nil
}
