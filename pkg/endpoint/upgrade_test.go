// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

func mustUpgrade(t testing.TB, n *Node, want UpgradeKind) UpgradePlan {
	t.Helper()
	planned, planErr := n.PlanUpgrade(t.Context())
	up, err := n.Upgrade(t.Context())
	if err = errors.Join(planErr, err); err != nil {
		t.Fatalf("upgrade: %v", err)
	}
	if up.Kind != want || planned.Kind != want || up.Done != (want != UpgradeNone) || planned.Done {
		t.Fatalf("planned %+v, did %+v; want %s", planned, up, want)
	}
	return up
}

func TestKindOfUpgradeDependsOnVersionsAndPrograms(t *testing.T) {
	for _, c := range []struct {
		name, loaded, own string
		same              bool // the programs are the same
		want              UpgradeKind
	}{
		{"the same", "v1.2.0", "v1.2.0", true, UpgradeNone},
		{"a newer version", "v1.2.0", "v1.3.0", false, UpgradePrograms},
		{"a newer version of the same programs", "v1.2.0", "v1.3.0", true, UpgradeVersion},
		{"an older version of the same programs", "v1.3.0", "v1.2.0", true, UpgradeNone},
		{"other programs of the same version", "v1.2.0", "v1.2.0", false, UpgradePrograms},
		{"commits, whose names have no order", "0123456789ab", "ba9876543210", false, UpgradePrograms},
		{"commits with the same programs", "0123456789ab", "ba9876543210", true, UpgradeVersion},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := loadOther(t, c.loaded)
			if c.same {
				if _, err := n.ForceUpgrade(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			n.Settings.Version = c.own
			up := mustUpgrade(t, n, c.want)
			if up.From != c.loaded || up.To != c.own || up.FromABI != datapath.ABI || up.ToABI != datapath.ABI {
				t.Errorf("%+v", up)
			}
			if c.want == UpgradeNone {
				c.own = c.loaded
			}
			expectLoaded(t, n, c.own)
			mustUpgrade(t, n, UpgradeNone)
		})
	}
}

func TestADowngradeIsRefusedUnlessForced(t *testing.T) {
	n := loadOther(t, "v1.10.0")
	n.Settings.Version = "v1.9.0"
	_, planErr := n.PlanUpgrade(t.Context())
	_, err := n.Upgrade(t.Context())
	for call, err := range map[string]error{"plan": planErr, "upgrade": err} {
		var downgrade *DowngradeError
		if !errors.Is(err, ErrDowngrade) || !errors.As(err, &downgrade) || downgrade.Loaded != "v1.10.0" ||
			downgrade.Own != "v1.9.0" {
			t.Errorf("%s: %v, want an ErrDowngrade", call, err)
			continue
		}
		for _, text := range []string{"v1.10.0", "v1.9.0", "upgrade --force"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", call, err, text)
			}
		}
	}
	if version, own := loaded(t, n); version != "v1.10.0" || own {
		t.Errorf("the refused downgrade left version %q", version)
	}
	if up, err := n.ForceUpgrade(t.Context()); !up.Done || err != nil {
		t.Errorf("forced: %+v, %v", up, err)
	}
	expectLoaded(t, n, "v1.9.0")
}

func TestUpgradeWithoutStateIsAnError(t *testing.T) {
	n := newNode(t)
	if _, err := n.Upgrade(t.Context()); !errors.Is(err, datapath.ErrNotLoaded) {
		t.Errorf("no directory: %v, want ErrNotLoaded", err)
	}
	mkdir(t, n.Dir)
	if _, err := n.Upgrade(t.Context()); !errors.Is(err, datapath.ErrNotLoaded) {
		t.Errorf("empty directory: %v, want ErrNotLoaded", err)
	}
	mkdir(t, n.Dir, stateName(datapath.ABI+1))
	if _, err := n.Upgrade(t.Context()); !errors.Is(err, datapath.ErrForeignState) ||
		!strings.Contains(err.Error(), "newer version") {
		t.Errorf("newer ABI: %v, want ErrForeignState", err)
	}
}

// A node may have binaries of several versions. The one that the runtime calls uses the loaded programs.
func TestOtherCallsNeverUpgrade(t *testing.T) {
	for _, own := range []string{"v1.1.0", "v1.3.0"} {
		t.Run(own, func(t *testing.T) {
			n, g, sb := loadOther(t, "v1.2.0"), newGroup(t), container(t, "one")
			n.Settings.Version = own
			mustAdd(t, n, sb, in(g))
			expectOnly(t, n, "after ADD", g, sb)
			if loaded, err := n.Load(t.Context()); loaded || err != nil {
				t.Errorf("load: %v, %v", loaded, err)
			}
			if err := n.Ready(t.Context()); err != nil {
				t.Errorf("status: %v", err)
			}
			mustDel(t, n, sb)
			if version, own := loaded(t, n); version != "v1.2.0" || own {
				t.Errorf("version %q is loaded now", version)
			}
		})
	}
}

func TestUpgradeKeepsWhatIsRegistered(t *testing.T) {
	n, g, other, sb := loadOther(t, "v1"), newGroup(t), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	if _, _, err := n.AttachCgroup(t.Context(), other.path); err != nil {
		t.Fatal(err)
	}
	before := stateOf(t, n)
	n.Settings = versioned("v2")
	n.Settings.MaxSockets, n.Settings.MaxBacklogBytes = 4096, 12345
	if up := mustUpgrade(t, n, UpgradePrograms); up.Cgroups != 2 {
		t.Errorf("%d cgroups, want 2", up.Cgroups)
	}
	expect(t, n, "after the upgrade", before)
	if err := n.Check(t.Context(), sb); err != nil {
		t.Error(err)
	}
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if cfg, err := d.Config(); err != nil || cfg.MaxSockets != 1024 || cfg.MaxBacklogBytes != 1<<20 {
		t.Errorf("the upgrade changed bounds: %+v, %v", cfg, err)
	}
}

func TestUpgradeProbesTheNewProgramsPrivately(t *testing.T) {
	n := loadOther(t, "v1")
	n.Settings = versioned("v2")
	asked := 0
	n.Settings.Probe = func(attach func(*os.File) (io.Closer, error), names ...string) (uint32, uint32, error) {
		asked++
		group := openDir(t, newGroup(t).path)
		attached, err := attach(group)
		if err != nil {
			return 0, 0, err
		}
		return uint32(hazard.SetOf("splice", "fin")), uint32(hazard.SetOf("splice")), attached.Close()
	}
	mustUpgrade(t, n, UpgradePrograms)
	d, err := datapath.Open(n.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil || asked != 1 || hazard.Set(cfg.Hazards) != hazard.SetOf("splice", "fin") ||
		hazard.Set(cfg.Guarded) != hazard.SetOf("splice") {
		t.Errorf("probed %d times, %+v, %v", asked, cfg, err)
	}

	markOther(t, n)
	broken := errors.New("the probe failed")
	n.Settings.Probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
		return 0, 0, broken
	}
	if _, err := n.Upgrade(t.Context()); !errors.Is(err, broken) {
		t.Errorf("%v, want the probe's error", err)
	}
	if d.Digest() == "" {
		t.Error("a failed probe changed something")
	}
}

func openDir(t testing.TB, path string) *os.File {
	t.Helper()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func TestManyUpgradesAtOnceAreOne(t *testing.T) {
	n, g, sb := loadOther(t, "v1"), newGroup(t), container(t, "one")
	mustAdd(t, n, sb, in(g))
	n.Settings = versioned("v2")
	n.LockTimeout = 6 * patience
	const count = 4
	var (
		wg   sync.WaitGroup
		done [count]bool
	)
	for i := range count {
		wg.Go(func() {
			up, err := n.Upgrade(t.Context())
			if err != nil {
				t.Error(err)
			}
			done[i] = up.Done
		})
	}
	another := container(t, "two")
	wg.Go(func() { mustAdd(t, n, another, in(g)) })
	wg.Wait()
	slices.SortFunc(done[:],
		func(a, b bool) int { return map[bool]int{true: -1}[a] - map[bool]int{true: -1}[b] })
	if done != [count]bool{true} {
		t.Errorf("upgraded: %v, want one of them", done)
	}
	expectLoaded(t, n, "v2")
	expectOnly(t, n, "after all", g, sb, another)
	expectNoUnfinished(t, n)
}

func TestUpgradeDoesNotWaitForeverForTheLock(t *testing.T) {
	n := loadOther(t, "v1")
	hold(t, n.Dir)
	n.LockTimeout = 20 * time.Millisecond
	if _, err := n.Upgrade(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
	n.LockTimeout = 0
}
