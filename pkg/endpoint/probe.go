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

// ProbeAgain lets the probes of n.Settings ask the kernel again, and records what they find. It loads where nothing is loaded,
// and returns the hazards that were known before and those that are now. Containers that run stay as they are, and others
// are added while the probes ask.
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
		return was, was, fmt.Errorf("%w: what is loaded was changed while the kernel was asked for hazards (ask again)", ErrBusy)
	}
	before, err := s.d.Config()
	if err != nil {
		return was, was, err
	}
	return was, hazard.Set(known.hazards &^ known.guarded), s.setProbedAs(before.Version, known.hazards, known.guarded)
}

// knownHazards returns the hazards that are known, and what there is to ask of the programs that are loaded.
func (s *session) knownHazards() (was hazard.Set, q probeRequest, err error) {
	before, err := s.d.Config()
	if err != nil {
		return 0, probeRequest{}, err
	}
	if s.d.Digest() != datapath.Digest() {
		return 0, probeRequest{}, fmt.Errorf("the programs of version %s are loaded, and these probes are made for those of %s (use "+
			"that version's program, or: sockmapctl upgrade, which asks again, too)", before.Version, s.Settings.Version)
	}
	q, err = s.probeRequestFor(UpgradeProbes)
	return hazard.Set(before.Hazards &^ before.Guarded), q, err
}

// probesDiffer tells whether what is known of the kernel was found by other probes than those of n.Settings, or by nobody knows
// which.
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

// probeRequest is what there is to ask the kernel. Two that are equal have the same answer.
type probeRequest struct {
	needed  bool   // false: nothing
	without string // the names of guards that are switched off
	known   uint32 // hazards that are open already
}

// probeResult is what the probes say to a question.
type probeResult struct {
	probeRequest
	hazards, guarded uint32
}

// repeat is a probe that knows the answer. Asked again for some by name, it tells what a guard that was loaded since has left.
func (a probeResult) repeat(_ func(*os.File) (io.Closer, error), names ...string) (hazards, guarded uint32, err error) {
	if len(names) > 0 {
		return a.hazards &^ a.guarded, 0, nil
	}
	return a.hazards, a.guarded, nil
}

// probeRequestFor is what a change of what is loaded needs to know.
func (n *Node) probeRequestFor(change UpgradeKind) (probeRequest, error) {
	switch {
	case n.Settings.Probe == nil:
		return probeRequest{}, nil
	case change == UpgradeMaps || change == UpgradeSettings: // to guards that the settings name, as a first load
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

// runProbes lets the probes find what a first load of these programs would. It takes no lock.
func (n *Node) runProbes(ctx context.Context, q probeRequest) (known probeResult, err error) {
	// Probes need a cgroup, and nobody may have looked for cgroup2 yet.
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
		n.log().Warn("the new programs meet hazards that were not known before: containers are not accelerated any more unless "+
			"they are accepted", "hazards", more)
	}
	return known, ctx.Err()
}
