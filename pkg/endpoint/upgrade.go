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

// UpgradeKind is how much an upgrade has to do.
type UpgradeKind string

const (
	// UpgradeNone: what is loaded is what this program would load.
	UpgradeNone UpgradeKind = "none"
	// UpgradeVersion: other versions, but the same programs. Only the version is recorded.
	UpgradeVersion UpgradeKind = "version"
	// UpgradeProbes: the same programs, but the hazards are not known to be what this version's probes would find. They ask.
	UpgradeProbes UpgradeKind = "probes"
	// UpgradePrograms: other programs take over the maps, and with them all live flows.
	UpgradePrograms UpgradeKind = "programs"
	// UpgradeSettings: maps of another size, or other guards, beside those that are loaded. Live flows end with the old ones.
	UpgradeSettings UpgradeKind = "settings"
	// UpgradeMaps: other programs and other maps. Live flows end with the old ones.
	UpgradeMaps UpgradeKind = "maps"
)

// UpgradePlan tells what an upgrade does, or did.
type UpgradePlan struct {
	Kind           UpgradeKind
	From, To       string // versions; they may be the same where the programs are not
	FromABI, ToABI uint32
	Done           bool
	// Postponed says why settings that count do not come into force now, see datapath.CanResize. nil: they do, or are.
	Postponed error
	Cgroups   int // that run the new programs; of an upgrade that was done
}

// ErrDowngrade: what is loaded is of a newer version. See DowngradeError.
var ErrDowngrade = errors.New("downgrade refused")

// DowngradeError says which version is loaded. It is an ErrDowngrade.
type DowngradeError struct{ Loaded, Own string }

func (e *DowngradeError) Error() string {
	return fmt.Sprintf("%s: version %s is loaded, this is %s (use that version's program, or do it all the same with: "+
		"sockmapctl upgrade --force)", ErrDowngrade, e.Loaded, e.Own)
}

// Is makes every DowngradeError an ErrDowngrade.
func (e *DowngradeError) Is(target error) bool { return target == ErrDowngrade }

// PlanUpgrade tells what Upgrade would do now, and changes nothing. It takes no lock, and returns the same errors.
func (n *Node) PlanUpgrade(_ context.Context) (UpgradePlan, error) {
	up, _, err := n.plan(false)
	return up, err
}

// Upgrade puts the programs of this version, Settings.Version, in the place of those that are loaded: one critical section,
// in which live flows lose nothing. Probes, where there is anything to ask, come before it. It does nothing where the same programs are loaded. Settings count as far as
// datapath.Takeover says; Add never upgrades.
//
// It returns datapath.ErrNotLoaded where nothing is loaded, an ErrDowngrade where a newer version is, a datapath.StateError
// for state that this version cannot take over, and datapath.ErrGuardLost. Nothing was changed then. After any other error
// what is loaded works, and the next Upgrade does it again.
func (n *Node) Upgrade(ctx context.Context) (UpgradePlan, error) { return n.upgrade(ctx, false) }

// ForceUpgrade is Upgrade for those who want a downgrade within one ABI, or do without guards that do not load any more.
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

// settingsDiffer tells whether the settings that need new maps or programs are others than those of what is loaded.
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

// mostAsks bounds how often an upgrade lets the probes ask because somebody has changed what it asked about.
const maxProbeRuns = 3

// upgrade lets the probes ask before it takes the lock, as they take seconds, for which ADDs would wait.
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
	return up, fmt.Errorf("%w: what is loaded has changed each time that the kernel was asked for hazards", ErrBusy)
}

// plannedProbeRequest is what an upgrade would need to know. Where nothing can be planned there is no question, and the upgrade
// says why when it has the lock.
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

// upgradeWith upgrades where known answers what there is to know; again tells that it does not.
func (n *Node) upgradeWith(ctx context.Context, force bool, known probeResult) (up UpgradePlan, again bool, err error) {
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
	// New maps know of no helpers yet. rearmReplaced has opened them.
	_, err = s.applyHelpers()
	return up, false, err
}

// applyUpgrade does what was planned. The session has what is in force then.
func (s *session) applyUpgrade(change UpgradeKind, old *datapath.Old, force bool, known probeResult) (cgroups int, err error) {
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
		// Where no flow is live, nothing is left of what was loaded.
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
		how.Hazards, how.Guarded, how.ProbeSet = now.Hazards, now.Guarded, s.d.ProbeSet() // whose answers stay
	}
	return s.d.Upgrade(how)
}

func (s *session) upgradeSteps() datapath.Takeover {
	return datapath.Takeover{Settings: s.Settings, Open: s.openCgroupID, Step: s.step}
}

// openCgroupID opens a cgroup by what its link is named after.
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
		return nil, fmt.Errorf("cgroup %d: %w", id, fs.ErrNotExist) // another one stands at its path
	}
	return dir, nil
}
