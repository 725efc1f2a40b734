// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// repin puts a map of another shape in the place of one that is pinned.
func repin(t *testing.T, pin string, spec *ebpf.MapSpec) {
	t.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := errors.Join(os.Remove(pin), m.Pin(pin)); err != nil {
		t.Fatal(err)
	}
}

func TestPlanRefusesWhatTheUpgradeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		pin  string
		spec ebpf.MapSpec
		want string
	}{
		"size": {"totals", ebpf.MapSpec{Type: ebpf.PerCPUHash, KeySize: 8, ValueSize: 408, MaxEntries: 1024,
			Flags: 1}, "values of 408 bytes"},
		"type": {"history", ebpf.MapSpec{Type: ebpf.Hash, KeySize: 32, ValueSize: 16, MaxEntries: 1024},
			"a Hash with"},
		"flags": {"calls", ebpf.MapSpec{Type: ebpf.Hash, KeySize: 12, ValueSize: 128, MaxEntries: 1024},
			"flags 0x0"},
	} {
		t.Run(name, func(t *testing.T) {
			n := loadOther(t, "v1.2.0")
			n.Settings.Version = "v1.3.0"
			repin(t, filepath.Join(n.Dir, stateName(datapath.ABI), c.pin), &c.spec)
			up, planErr := n.PlanUpgrade(t.Context())
			if up.Kind != UpgradePrograms {
				t.Errorf("planned %+v", up)
			}
			_, err := n.Upgrade(t.Context())
			_, forceErr := n.ForceUpgrade(t.Context())
			for call, err := range map[string]error{"plan": planErr, "upgrade": err, "force": forceErr} {
				if !errors.Is(err, datapath.ErrForeignState) || !strings.Contains(err.Error(), c.pin) ||
					!strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v, want an ErrForeignState with %q", call, err, c.want)
				}
			}
			if version, own := loaded(t, n); version != "v1.2.0" || own {
				t.Errorf("version %q is loaded now", version)
			}
		})
	}
}
