// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

func TestMain(m *testing.M) {
	probe.Main()
	fixture.Main(m)
}

// load loads with the probes on a bpffs of the test's own, and returns their findings.
func load(t *testing.T, without ...string) (*datapath.Datapath, hazard.Findings) {
	t.Helper()
	dir := fixture.StateDir(t)
	var findings hazard.Findings
	d, err := datapath.Load(dir, datapath.Settings{
		MaxSockets: 1024, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, WithoutGuards: without,
		Probe: func(attach func(*os.File) (io.Closer, error), names ...string) (uint32, uint32, error) {
			f, err := probe.Run(t.Context(), attach, names...)
			findings = f.After(findings)
			present, guarded := f.Sets()
			return uint32(present), uint32(guarded), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		if err := datapath.Unload(dir, false); err != nil {
			t.Error(err)
		}
	})
	return d, findings
}

func TestProbesLookAtEveryHazardInMilliseconds(t *testing.T) {
	start := time.Now()
	d, findings := load(t)
	t.Logf("load and probes took %v", time.Since(start))
	var names []string
	for _, f := range findings {
		names = append(names, f.Name)
		t.Logf("%-20s present %-5v guarded %-5v %7.2f ms  %s", f.Name, f.Present, f.Guarded, float64(f.Nanos)/1e6,
			f.Seen)
		if f.Seen == "" || f.Present && f.Guarded {
			t.Errorf("%+v", f)
		}
	}
	if diff := cmp.Diff(hazard.SetOf(hazard.All).Names(), names); diff != "" {
		t.Error(diff)
	}
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	present, guarded := findings.Sets()
	if hazard.Set(cfg.Hazards) != present || hazard.Set(cfg.Guarded) != guarded {
		t.Errorf("recorded %x and %x, found %x and %x", cfg.Hazards, cfg.Guarded, present, guarded)
	}
}

// Probes use the real maps before they are published. Nothing of that may be seen afterwards.
func TestProbesLeaveNoTrace(t *testing.T) {
	d, _ := load(t)
	totals, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	for cookie, sums := range totals {
		if sums.RedirectedBytes != 0 || sums.Flows[datapath.RoleActive][datapath.ResultJoined] != 0 {
			t.Errorf("netns %d: %+v", cookie, sums)
		}
	}
	if err := d.Flows(func(f datapath.Flow) bool { t.Errorf("live flow %+v", f); return true }); err != nil {
		t.Error(err)
	}
	if links, err := d.Links(); err != nil || len(links) != 0 {
		t.Errorf("links %v, %v", links, err)
	}
	mount, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("sockmap-probe-%d-*", os.Getpid())
	if left, _ := filepath.Glob(filepath.Join(mount.Path, own)); len(left) != 0 {
		t.Errorf("cgroups are left: %v", left)
	}
}

func TestOptionsGuardIsSeen(t *testing.T) {
	byName := func(f hazard.Findings, name string) hazard.Finding {
		for _, one := range f {
			if one.Name == name {
				return one
			}
		}
		t.Fatalf("no finding of %s", name)
		return hazard.Finding{}
	}
	_, with := load(t)
	if f := byName(with, "zerocopy"); !f.Guarded {
		t.Errorf("with the guard: %+v", f)
	}
	_, without := load(t, datapath.GuardOptions)
	if f := byName(without, "zerocopy"); f.Guarded {
		t.Errorf("without the guard: %+v", f)
	}
}
