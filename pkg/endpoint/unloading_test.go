// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

func wantSwitch(t *testing.T, n *Node, disabled bool) {
	t.Helper()
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if cfg, err := d.Config(); err != nil || cfg.Disabled != disabled || d.Unloading() {
		t.Errorf("disabled %v, unloading %v, %v; want disabled %v", cfg.Disabled, d.Unloading(), err, disabled)
	}
}

// Uninstall drains and then unloads. If it ends in between, nobody has disabled the node.
func TestInterruptedDrainIsNotRecordedAsDisable(t *testing.T) {
	for _, before := range []bool{false, true} {
		t.Run(fmt.Sprintf("disabled %v", before), func(t *testing.T) {
			n := newNode(t)
			load(t, n)
			if _, err := n.SetDisabled(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			drain := func() {
				t.Helper()
				ended, cancel := context.WithCancel(t.Context())
				n.Step = func(string) error { cancel(); return nil }
				_, err := n.Drain(ended)
				if n.Step = nil; err != nil {
					t.Fatal(err)
				}
			}
			drain()
			if loaded, err := n.Load(t.Context()); loaded || err != nil {
				t.Fatalf("loaded %v, %v", loaded, err)
			}
			wantSwitch(t, n, before)
			drain()
			if _, err := n.UnloadOnRequest(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			load(t, n)
			wantSwitch(t, n, before)
		})
	}
}

func TestDisableAfterAnInterruptedUnloadCounts(t *testing.T) {
	n := newNode(t)
	load(t, n)
	interrupted := errors.New("interrupted")
	n.Step = func(step string) error {
		if step == "mark unloaded" {
			return interrupted
		}
		return nil
	}
	_, err := n.UnloadOnRequest(t.Context(), false)
	if n.Step = nil; !errors.Is(err, interrupted) {
		t.Fatal(err)
	}
	if changed, err := n.SetDisabled(t.Context(), true); changed || err != nil {
		t.Errorf("changed %v, %v: it is off already", changed, err)
	}
	if _, err := n.UnloadOnRequest(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	load(t, n)
	wantSwitch(t, n, true)
}
