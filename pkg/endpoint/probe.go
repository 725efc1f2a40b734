// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// ProbeAgain lets the probes of n.Settings ask the kernel again, and records what they find. It loads where nothing is loaded,
// and returns the hazards that were known before and those that are now. Containers that run stay as they are.
func (n *Node) ProbeAgain(ctx context.Context) (was, now hazard.Set, err error) {
	s, err := n.begin(ctx, true)
	if err != nil {
		return 0, 0, err
	}
	defer s.end()
	before, err := s.d.Config()
	if err != nil {
		return 0, 0, err
	}
	if s.d.Digest() != datapath.Digest() {
		return 0, 0, fmt.Errorf("the programs of version %s are loaded, and these probes are made for those of %s (use that "+
			"version's program, or: sockmapctl upgrade, which asks again, too)", before.Version, s.Settings.Version)
	}
	was = hazard.Set(before.Hazards &^ before.Guarded)
	if s.loaded || s.Settings.Probe == nil {
		return was, was, nil
	}
	if _, err := s.ensureMount(); err != nil {
		return was, was, err
	}
	hazards, guarded, err := s.probePrivately(ctx, s.d)
	if err != nil {
		return was, was, err
	}
	return was, hazard.Set(hazards &^ guarded), s.setProbedAs(s.d, before.Version, hazards, guarded)
}

// otherProbes tells whether what is known of the kernel was found by other probes than those of n.Settings, or by nobody knows
// which.
func (n *Node) otherProbes(d *datapath.Datapath) bool {
	if n.Settings.Probe == nil {
		return false
	}
	set := d.ProbeSet()
	return set == "" || set != n.Settings.ProbeSet
}

func (s *session) setProbed(d *datapath.Datapath, hazards, guarded uint32) error {
	return s.setProbedAs(d, s.Settings.Version, hazards, guarded)
}

func (s *session) setProbedAs(d *datapath.Datapath, version string, hazards, guarded uint32) error {
	if err := s.step("probed"); err != nil {
		return err
	}
	return d.SetProbed(version, s.Settings.ProbeSet, hazards, guarded)
}

// probePrivately asks what a first load of these programs would find, with the guards that are loaded now.
func (s *session) probePrivately(ctx context.Context, d *datapath.Datapath) (hazards, guarded uint32, err error) {
	now, err := d.Config()
	if err != nil || s.Settings.Probe == nil {
		return now.Hazards, now.Guarded, err
	}
	if err := s.step("probe"); err != nil {
		return 0, 0, err
	}
	guards, err := d.GuardStates()
	if err != nil {
		return 0, 0, err
	}
	private := s.Settings
	private.WithoutGuards = nil
	for _, g := range guards {
		if g.SwitchedOff() {
			private.WithoutGuards = append(private.WithoutGuards, g.Name)
		}
	}
	private.Probe = func(attach func(*os.File) (io.Closer, error)) (uint32, uint32, error) {
		hazards, guarded, err = s.Settings.Probe(attach)
		return hazards, guarded, err
	}
	err = privately(func(dir string) error {
		loaded, err := datapath.Load(dir, private)
		if err != nil {
			return err
		}
		return loaded.Close()
	})
	if err != nil {
		return 0, 0, err
	}
	if more := hazard.Set(hazards &^ guarded &^ (now.Hazards &^ now.Guarded)).Severe(); more != 0 {
		s.log().Warn("the new programs meet hazards that were not known before: containers are not accelerated any more unless "+
			"they are accepted", "hazards", more)
	}
	return hazards, guarded, ctx.Err()
}
