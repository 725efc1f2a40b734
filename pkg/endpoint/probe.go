// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// ProbeAgain runs the probes of n.Settings again and records what they find. It loads the programs if nothing
// is loaded. It returns the open hazards before and after. Running containers are not affected, and others
// can be added meanwhile.
func (n *Node) ProbeAgain(ctx context.Context) (was, now hazard.Set, err error) {
	s, err := n.beginSession(ctx, true)
	if err != nil {
		return 0, 0, err
	}
	was, q, err := s.knownHazards()
	loaded := s.loadedNow
	s.end()
	if err != nil || loaded || !q.needed {
		return was, was, err
	}
	known, err := n.runProbes(ctx, q)
	if err != nil {
		return was, was, err
	}
	if s, err = n.beginLoaded(ctx); err != nil {
		return was, was, err
	}
	defer s.end()
	_, same, err := s.knownHazards()
	if err != nil {
		return was, was, err
	}
	if same != q {
		return was, was, fmt.Errorf("%w: the loaded programs were changed while the probes ran (run this again)",
			ErrBusy)
	}
	before, err := s.d.Config()
	if err != nil {
		return was, was, err
	}
	return was, hazard.Set(known.hazards &^ known.guarded), s.setProbedAs(before.Version, known.hazards,
		known.guarded)
}

// knownHazards returns the open hazards that are recorded, and the request for probing the loaded programs
// again.
func (s *session) knownHazards() (was hazard.Set, q probeRequest, err error) {
	before, err := s.d.Config()
	if err != nil {
		return 0, probeRequest{}, err
	}
	if s.d.Digest() != datapath.Digest() {
		return 0, probeRequest{},
			fmt.Errorf("the programs of version %s are loaded, and these probes are made for those of %s (use "+
				"that version's program, or: sockmapctl upgrade, which asks again, too)", before.Version,
				s.Settings.Version)
	}
	q, err = s.probeRequestFor(UpgradeProbes)
	return hazard.Set(before.Hazards &^ before.Guarded), q, err
}

// probesDiffer reports whether the recorded hazards were found by another set of probes than that of
// n.Settings, or by an unknown one.
func (n *Node) probesDiffer(d *datapath.Datapath) bool {
	if n.Settings.Probe == nil {
		return false
	}
	set := d.ProbeSet()
	return set == "" || set != n.Settings.ProbeSet
}

func (s *session) setProbed(hazards, guarded uint32) error {
	return s.setProbedAs(s.Settings.Version, hazards, guarded)
}

func (s *session) setProbedAs(version string, hazards, guarded uint32) error {
	if err := s.step("probed"); err != nil {
		return err
	}
	return s.d.SetProbed(version, s.Settings.ProbeSet, hazards, guarded)
}

// probeRequest is the input of a run of probes. Equal requests have equal results.
type probeRequest struct {
	needed  bool   // false: nothing has to be probed
	without string // names of guards that are switched off
	known   uint32 // hazards that are open already
}

// probeResult is what the probes found for a request.
type probeResult struct {
	probeRequest
	hazards, guarded uint32
}

// repeat is a probe that returns this result. If it is called with names, it returns the hazards that a
// guard, which was loaded meanwhile, has left open.
func (a probeResult) repeat(_ func(*os.File) (io.Closer, error),
	names ...string) (hazards, guarded uint32, err error) {
	if len(names) > 0 {
		return a.hazards &^ a.guarded, 0, nil
	}
	return a.hazards, a.guarded, nil
}

// probeRequestFor returns the request that an upgrade of this kind needs.
func (n *Node) probeRequestFor(change UpgradeKind) (probeRequest, error) {
	switch {
	case n.Settings.Probe == nil:
		return probeRequest{}, nil
	case change == UpgradeMaps || change == UpgradeSettings: // with the guards of the settings
		return probeRequest{true, strings.Join(n.Settings.WithoutGuards, ","), ^uint32(0)}, nil
	case change != UpgradePrograms && change != UpgradeProbes:
		return probeRequest{}, nil
	}
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return probeRequest{}, err
	}
	defer d.Close()
	now, err := d.Config()
	if err != nil {
		return probeRequest{}, err
	}
	guards, err := d.GuardStates()
	if err != nil {
		return probeRequest{}, err
	}
	var without []string
	for _, g := range guards {
		if g.SwitchedOff() {
			without = append(without, g.Name)
		}
	}
	return probeRequest{true, strings.Join(without, ","), now.Hazards &^ now.Guarded}, nil
}

// runProbes finds the hazards that a first load of these programs would find. It takes no lock.
func (n *Node) runProbes(ctx context.Context, q probeRequest) (known probeResult, err error) {
	// Probes need a cgroup, and cgroup2 may not have been looked for yet.
	if _, err := n.ensureMount(); err != nil {
		return probeResult{}, err
	}
	if err := n.step("probe"); err != nil {
		return probeResult{}, err
	}
	private := n.Settings
	private.WithoutGuards = nil
	if q.without != "" {
		private.WithoutGuards = strings.Split(q.without, ",")
	}
	known.probeRequest = q
	err = LoadPrivately(private, func(d *datapath.Datapath) error {
		cfg, err := d.Config()
		known.hazards, known.guarded = cfg.Hazards, cfg.Guarded
		return err
	})
	if err != nil {
		return probeResult{}, err
	}
	if more := hazard.Set(known.hazards &^ known.guarded &^ q.known).Severe(); more != 0 {
		n.log().Warn("the new programs meet hazards that were not known before: containers are not accelerated "+
			"any more unless they are accepted", "hazards", more)
	}
	return known, ctx.Err()
}
