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

// slow is a probe that finds nothing, and that ends only when it is released.
func slow() (probe datapath.Probe, asks <-chan struct{}, letGo func()) {
	begun, end := make(chan struct{}), make(chan struct{})
	probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
		close(begun)
		<-end
		return uint32(hazard.SetOf("fin")), 0, nil
	}
	return probe, begun, func() { close(end) }
}

func TestAddsDoNotWaitForTheProbesOfAnUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		change UpgradeKind
		before func(t *testing.T, n *Node)
		do     func(t *testing.T, n *Node) error
		add    error // error of an Add meanwhile
	}{
		"other programs": {UpgradePrograms, func(t *testing.T, n *Node) { markOther(t, n) }, doUpgrade, nil},
		"other probes":   {UpgradeProbes, func(*testing.T, *Node) {}, doUpgrade, nil},
		"other maps": {UpgradeMaps, func(t *testing.T, n *Node) { makeOld(t, n) }, doUpgrade,
			datapath.ErrForeignState},
		"probe again": {UpgradeProbes, func(*testing.T, *Node) {}, func(t *testing.T, n *Node) error {
			_, _, err := n.ProbeAgain(t.Context())
			return err
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			n, g := newNode(t), newGroup(t)
			n.Settings.ProbeSet = "one"
			load(t, n)
			c.before(t, n)
			up := *n
			up.Settings = versioned("v2")
			var asks <-chan struct{}
			var letGo func()
			up.Settings.Probe, asks, letGo = slow()
			up.Settings.ProbeSet = "two"
			if planned, err := up.PlanUpgrade(t.Context()); err != nil || planned.Kind != c.change {
				t.Fatalf("planned %+v, %v", planned, err)
			}
			done := make(chan error, 1)
			go func() { done <- c.do(t, &up) }()
			select {
			case <-asks:
			case err := <-done:
				t.Fatalf("it does not ask: %v", err)
			}
			sb := container(t, "meanwhile")
			_, err := n.Add(t.Context(), sb, in(g)) // fails for the lock after n.LockTimeout
			if !errors.Is(err, c.add) {
				t.Errorf("an ADD while the probes ask: %v, want %v", err, c.add)
			}
			letGo()
			if err := <-done; err != nil {
				t.Error(err)
			}
			expectProbed(t, n, "fin", "two")
			if c.add == nil {
				expectOnly(t, n, "after the upgrade", g, sb)
			}
		})
	}
}

func doUpgrade(t *testing.T, n *Node) error {
	up, err := n.Upgrade(t.Context())
	if err == nil && !up.Done {
		err = errors.New("nothing was done")
	}
	return err
}

// The loaded state may have changed by the time the result is there.
func TestProbeResultCountsOnlyForTheProbedState(t *testing.T) {
	for name, c := range map[string]struct {
		changes int // number of probe runs during which the loaded state is changed
		asked   int
		want    error
		version string
	}{
		"one change":  {1, 2, nil, "v2"},
		"always":      {maxProbeRuns, maxProbeRuns, ErrBusy, "v1"},
		"no change":   {0, 1, nil, "v2"},
		"taken ahead": {-1, 1, nil, "v3"},
	} {
		t.Run(name, func(t *testing.T) {
			n, asked := loadOther(t, "v1"), 0
			n.Settings = versioned("v2")
			n.Settings.ProbeSet = "two"
			n.Settings.Probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
				asked++
				if asked <= c.changes {
					open := uint32(hazard.SetOf("fin")) * uint32(asked%2)
					if err := opened(t, n).SetProbed("v1", "another", open, 0); err != nil {
						t.Error(err)
					}
				}
				if c.changes < 0 {
					other := *n
					other.Settings = versioned("v3")
					if _, err := other.Upgrade(t.Context()); err != nil {
						t.Error(err)
					}
				}
				return uint32(hazard.SetOf("splice")), 0, nil
			}
			if _, err := n.Upgrade(t.Context()); !errors.Is(err, c.want) || asked != c.asked {
				t.Errorf("asked %d times, want %d; %v, want %v", asked, c.asked, err, c.want)
			}
			if version, _ := loaded(t, n); version != c.version {
				t.Errorf("version %s is loaded, want %s", version, c.version)
			}
			if c.version == "v2" {
				expectProbed(t, n, "splice", "two")
			}
		})
	}
}
