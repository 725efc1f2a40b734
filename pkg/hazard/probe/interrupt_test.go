// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"io"
	"os"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// The result depends on the kernel and the guards, and not on scheduling.
func TestProbeOfInterruptedReadIsDeterministic(t *testing.T) {
	const runs = 10
	for name, without := range map[string][]string{"all guards": nil,
		"without blocking": {datapath.GuardBlocking}} {
		t.Run(name, func(t *testing.T) {
			findings, guards := probeOften(t, runs, without)
			want := hazard.Finding{Name: "eagain", Present: !guards[datapath.GuardBlocking],
				Guarded: guards[datapath.GuardBlocking]}
			for i, f := range findings {
				t.Logf("present %v, guarded %v after %.1f ms: %s", f.Present, f.Guarded, float64(f.Nanos)/1e6, f.Seen)
				if f.Present != want.Present || f.Guarded != want.Guarded || f.Seen != findings[0].Seen {
					t.Errorf("run %d of %d: %+v, want present %v, guarded %v", i+1, len(findings), f, want.Present,
						want.Guarded)
				}
			}
		})
	}
}

// probeOften loads once and probes often. It returns what was found of eagain, and which guards run.
func probeOften(t *testing.T, runs int, without []string) (findings hazard.Findings, active map[string]bool) {
	t.Helper()
	dir := fixture.StateDir(t)
	d, err := datapath.Load(dir, datapath.Settings{
		MaxSockets: 1024, MaxBacklogBytes: 4 << 20, MaxBacklogMessages: 4096, WithoutGuards: without,
		Probe: func(attach func(*os.File) (io.Closer, error), names ...string) (uint32, uint32, error) {
			for range runs {
				f, err := probe.Run(t.Context(), attach, names...)
				if err != nil {
					return 0, 0, err
				}
				for _, one := range f {
					if one.Name == "eagain" {
						findings = append(findings, one)
					}
				}
			}
			return 0, 0, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	defer datapath.Unload(dir, false)
	states, err := d.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	active = map[string]bool{}
	for _, g := range states {
		t.Logf("guard %+v", g)
		active[g.Name] = g.Active
	}
	if len(findings) != runs {
		t.Fatalf("%d findings of %d runs", len(findings), runs)
	}
	return findings, active
}
