// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// finding is a probe that finds these hazards.
func finding(names ...string) datapath.Probe {
	return func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
		return uint32(hazard.SetOf(names...)), 0, nil
	}
}

// probed returns the recorded hazards and the set of probes that found them.
func probed(t *testing.T, n *Node) (hazards, set string) {
	t.Helper()
	return hazard.Set(configOf(t, n).Hazards).String(), opened(t, n).ProbeSet()
}

func expectProbed(t *testing.T, n *Node, hazards, set string) {
	t.Helper()
	if gotHazards, gotSet := probed(t, n); gotHazards != hazards || gotSet != set {
		t.Errorf("probes %q have found %q, want %q and %q", gotSet, gotHazards, set, hazards)
	}
}

func TestVersionWithOtherProbesRunsThem(t *testing.T) {
	for name, c := range map[string]struct {
		version, set string
		want         UpgradeKind
	}{
		"newer version, other probes": {"v1.3.0", "two", UpgradeProbes},
		"newer version, same probes":  {"v1.3.0", "one", UpgradeVersion},
		"same version, other probes":  {"v1.2.0", "two", UpgradeProbes},
		"same version, same probes":   {"v1.2.0", "one", UpgradeNone},
		"older version, other probes": {"v1.1.0", "zero", UpgradeNone},
		"probes without a name":       {"v1.3.0", "", UpgradeProbes},
	} {
		t.Run(name, func(t *testing.T) {
			n, g := newNode(t), newGroup(t)
			n.Settings.Version, n.Settings.Probe, n.Settings.ProbeSet = "v1.2.0", finding(), "one"
			mustAdd(t, n, container(t, "a"), in(g))
			expectProbed(t, n, "", "one")
			n.Settings.Version, n.Settings.Probe, n.Settings.ProbeSet = c.version, finding("mptcp"), c.set
			mustUpgrade(t, n, c.want)
			_, err := n.Add(t.Context(), container(t, "b"), in(g))
			if h := (*HazardError)(nil); errors.As(err, &h) != (c.want == UpgradeProbes) {
				t.Errorf("the next container: %v", err)
			}
			if c.want != UpgradeProbes {
				expectProbed(t, n, "", "one")
				return
			}
			expectProbed(t, n, "mptcp", c.set)
			if version, _ := loaded(t, n); version != c.version {
				t.Errorf("version %q is loaded", version)
			}
			if c.set != "" {
				mustUpgrade(t, n, UpgradeNone)
			}
		})
	}
}

func TestUpgradeOfProgramsRecordsTheProbeSet(t *testing.T) {
	n := loadOther(t, "v1")
	n.Settings = versioned("v2")
	n.Settings.Probe, n.Settings.ProbeSet = finding("fin"), "two"
	mustUpgrade(t, n, UpgradePrograms)
	expectProbed(t, n, "fin", "two")
	mustUpgrade(t, n, UpgradeNone)

	// Without probes it keeps the hazards and the set that found them.
	markOther(t, n)
	n.Settings = versioned("v3")
	mustUpgrade(t, n, UpgradePrograms)
	expectProbed(t, n, "fin", "two")
}

func TestKilledChangeOfProbesIsRepeated(t *testing.T) {
	n := newNode(t)
	n.Settings.Probe, n.Settings.ProbeSet = finding(), "one"
	load(t, n)
	n.Settings.Probe, n.Settings.ProbeSet = finding("fin"), "two"
	killed := errors.New("killed")
	n.Step = func(name string) error {
		if name == "probed" {
			return killed
		}
		return nil
	}
	if _, err := n.Upgrade(t.Context()); !errors.Is(err, killed) {
		t.Fatalf("%v, want %v", err, killed)
	}
	n.Step = nil
	mustUpgrade(t, n, UpgradeProbes)
	expectProbed(t, n, "fin", "two")
}

func TestProbeAgain(t *testing.T) {
	n := newNode(t)
	n.Settings.Probe, n.Settings.ProbeSet = finding("fin", "splice"), "one"
	if was, now, err := n.ProbeAgain(t.Context()); was != now || now.String() != "splice, fin" || err != nil {
		t.Errorf("of what is not loaded: %q, %q, %v", was, now, err)
	}
	n.Settings.Probe, n.Settings.Version = finding("fin"), "other"
	if was, now, err := n.ProbeAgain(t.Context()); was.String() != "splice, fin" || now.String() != "fin" ||
		err != nil {
		t.Errorf("%q, %q, %v", was, now, err)
	}
	expectProbed(t, n, "fin", "one")
	if version, _ := loaded(t, n); version != "test" {
		t.Errorf("version %q is loaded: the programs are still those of test", version)
	}
	broken := errors.New("broken")
	n.Settings.Probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
		return 0, 0, broken
	}
	if _, _, err := n.ProbeAgain(t.Context()); !errors.Is(err, broken) {
		t.Errorf("%v, want the probe's error", err)
	}
	expectProbed(t, n, "fin", "one")
	markOther(t, n)
	if _, _, err := n.ProbeAgain(t.Context()); err == nil || errors.Is(err, broken) {
		t.Errorf("with programs of another version: %v", err)
	}
}
