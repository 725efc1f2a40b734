// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// traces are what an examination makes while it runs: cgroups and descriptors. Its bpffs is one of the
// latter.
func traces(t *testing.T) []string {
	t.Helper()
	groups, err := filepath.Glob(filepath.Join(cgroupMount(t).Path,
		fmt.Sprintf("sockmap-probe-%d-*", os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		groups = append(groups, f.Name())
	}
	return groups
}

func TestExamineFindsTheHazardsOfALoadAndLeavesNothing(t *testing.T) {
	n := newNode(t)
	n.Settings.Probe = probe.AtLoad
	load(t, n)
	before := traces(t)
	found, err := Examine(t.Context(), defaults)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, traces(t)); diff != "" {
		t.Errorf("it leaves %s", diff)
	}
	cfg := configOf(t, n)
	present, guarded := found.Findings.Sets()
	if cfg.Hazards != uint32(present) || cfg.Guarded != uint32(guarded) {
		t.Errorf("found %v, guarded %v; the load found %v, %v", present, guarded, hazard.Set(cfg.Hazards),
			hazard.Set(cfg.Guarded))
	}
	guards, err := opened(t, n).GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(guards, found.Guards); diff != "" {
		t.Errorf("guards differ from those of the load: %s", diff)
	}
}

func TestInterruptedExamineLeavesNothing(t *testing.T) {
	if _, err := Examine(t.Context(), defaults); err != nil { // whatever a process opens once is open now
		t.Fatal(err)
	}
	before := traces(t)
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 100 * time.Millisecond,
		150 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_, err := Examine(ctx, defaults)
		cancel()
		if after == 0 && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("interrupted at once: %v", err)
		}
		if diff := cmp.Diff(before, traces(t)); diff != "" {
			t.Errorf("interrupted after %v, it leaves %s", after, diff)
		}
	}
}

func TestExamineWithoutGuardsReportsCuredHazards(t *testing.T) {
	s := defaults
	s.WithoutGuards = hazard.GuardNames()
	found, err := Examine(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range found.Guards {
		if g.Active || !g.SwitchedOff() {
			t.Errorf("without guards: %+v", g)
		}
	}
	for _, f := range found.Findings {
		if f.Name == "splice" && !f.Present {
			t.Errorf("without guards: %+v", f)
		}
	}
}
