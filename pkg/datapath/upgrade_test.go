// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
)

// wantRedirect checks whether the next message of c is redirected.
func wantRedirect(t testing.TB, c, peer net.Conn, d *Datapath, want bool) {
	t.Helper()
	send(t, c, peer, 100, 1) // what came before has been read now
	before, ok := flowOf(t, d, c)
	send(t, c, peer, 100, 2)
	after, still := flowOf(t, d, c)
	if !ok || !still {
		t.Fatal("the flow is not listed")
	}
	if got := after.RedirectedMessages > before.RedirectedMessages; got != want {
		t.Errorf("redirected: %v, want %v (%+v)", got, want, after)
	}
}

func TestUpgradeReplacesEveryProgram(t *testing.T) {
	dir, g, manual := newStateDir(t), newGroup(t), newGroup(t)
	d := loadVariant(t, dir, "old", sameButForATag)
	key := LinkKey{CgroupID: g.id}
	if _, err := d.Attach(g.dir, key); err != nil {
		t.Fatal(err)
	}
	manual.attach(t, d)
	old := map[string]string{}
	for _, name := range []string{bpf.SockmapProgSockOps, bpf.SockmapProgSockOpsAny, bpf.SockmapProgVerdict} {
		_, old[name] = pinnedProgram(t, d, name)
	}
	if links := mustUpgrade(t, d, "new"); links != 2 {
		t.Errorf("%d cgroups upgraded, want 2", links)
	}
	wantOneVersion(t, d, "new")
	for name, tag := range old {
		if _, now := pinnedProgram(t, d, name); now == tag {
			t.Errorf("%s still has tag %s", name, tag)
		}
	}
	cfg, err := d.Config()
	if err != nil || cfg.MaxSockets != defaults.MaxSockets || cfg.Learn {
		t.Errorf("after the upgrade: %+v, %v", cfg, err)
	}
	if again := mustUpgrade(t, d, "newer"); again != 2 {
		t.Errorf("%d cgroups upgraded the second time, want 2", again)
	}
	wantOneVersion(t, d, "newer")
}

func TestLiveFlowsStayRedirectedThroughAnUpgrade(t *testing.T) {
	dir, g := newStateDir(t), newGroup(t)
	d := loadVariant(t, dir, "old", sameButForATag)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, client, server, d, true)
	wantRedirect(t, server, client, d, true)
	mustUpgrade(t, d, "new")
	wantRedirect(t, client, server, d, true)
	wantRedirect(t, server, client, d, true)
	// Both ends close through callbacks of the new programs, which count what the old ones redirected.
	client.Close()
	server.Close()
	eventually(t, "both are out of the sockhash", func() bool { return socketsIn(t, d) == 0 })
	eventually(t, "their bytes are counted", func() bool {
		all, err := d.Totals()
		return err == nil && all[unregistered].RedirectedBytes >= 800
	})
}

// The old verdict never redirects, so it shows which of the two a socket has.
func TestNewConnectionsRunTheNewProgramsAndLiveOnesKeepTheirs(t *testing.T) {
	dir, g := newStateDir(t), newGroup(t)
	d := loadVariant(t, dir, "old", neverRedirects)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, client, server, d, false)
	mustUpgrade(t, d, "new")
	wantRedirect(t, client, server, d, false)
	client, server = g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, client, server, d, true)
	wantRedirect(t, server, client, d, true)
}

func TestNoByteIsLostWhileUpgradesRun(t *testing.T) {
	dir, g := newStateDir(t), newGroup(t)
	d := loadVariant(t, dir, "old", sameButForATag)
	g.attach(t, d)
	const flows = 4
	var ends [flows][2]*net.TCPConn
	for i := range ends {
		ends[i][0], ends[i][1] = g.pair(t, "tcp4", "127.0.0.1:0")
	}
	var stop atomic.Bool
	done := make(chan int, flows)
	for i, pair := range ends {
		go func() {
			rounds := 0
			for ; !stop.Load() && !t.Failed(); rounds++ {
				send(t, pair[rounds%2], pair[1-rounds%2], 1+rounds*37%20000, uint64(i*1000+rounds))
			}
			done <- rounds
		}()
	}
	for i := range 5 {
		mustUpgrade(t, d, fmt.Sprint("version ", i))
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		wantRedirect(t, client, server, d, true)
	}
	stop.Store(true)
	for range flows {
		if rounds := <-done; rounds < 10 {
			t.Errorf("only %d rounds of traffic", rounds)
		}
	}
	for _, pair := range ends {
		if f, ok := flowOf(t, d, pair[0]); !ok || f.Mode != ModeRedirect || f.TCPMessages > 1 {
			t.Errorf("a flow was not redirected throughout: %v %+v", ok, f)
		}
	}
	wantOneVersion(t, d, "version 4")
}

func TestAbortedUpgradeWorksAndConverges(t *testing.T) {
	steps := []string{}
	{
		d, g := loadVariant(t, newStateDir(t), "old", sameButForATag), newGroup(t)
		g.attach(t, d)
		if _, err := d.Upgrade(upgradeTo(t, "new", func(s string) error {
			steps = append(steps, s)
			return nil
		})); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"mark", "guards", "programs", "verdict", "link", "version",
		"finish"}; !slices.Equal(steps, want) {
		t.Fatalf("the steps are %q, want %q", steps, want)
	}
	abort := errors.New("aborted by the test")
	for _, at := range steps {
		t.Run(at, func(t *testing.T) {
			d, g := loadVariant(t, newStateDir(t), "old", sameButForATag), newGroup(t)
			key := g.attach(t, d)
			client, server := g.pair(t, "tcp4", "127.0.0.1:0")
			_, err := d.Upgrade(upgradeTo(t, "new", func(s string) error {
				if s == at {
					return abort
				}
				return nil
			}))
			if !errors.Is(err, abort) {
				t.Fatalf("%v, want the step's error", err)
			}
			// It works as it stands: for live flows, for new ones, and for new links.
			wantRedirect(t, client, server, d, true)
			client2, server2 := g.pair(t, "tcp4", "127.0.0.1:0")
			wantRedirect(t, client2, server2, d, true)
			if err := d.Detach(key); err != nil {
				t.Fatal(err)
			}
			g.attach(t, d)
			mustUpgrade(t, d, "new")
			wantOneVersion(t, d, "new")
			wantRedirect(t, client, server, d, true)
			client3, server3 := g.pair(t, "tcp4", "127.0.0.1:0")
			wantRedirect(t, client3, server3, d, true)
		})
	}
}

func TestUpgradeSkipsLinksOfRemovedCgroups(t *testing.T) {
	d := loadVariant(t, newStateDir(t), "old", sameButForATag)
	path := filepath.Join(cgroupMount(t), fmt.Sprint("sockmap-datapath-draining-", os.Getpid()))
	mkdir(t, path)
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	g := &group{dir: dir, id: inode(t, dir)}
	key := g.attach(t, d)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// With its cgroup just gone, and with its link cut by the kernel.
	if links := mustUpgrade(t, d, "new"); links > 1 {
		t.Errorf("%d cgroups upgraded, want none", links)
	}
	eventually(t, "the kernel has cut the link", func() bool {
		alive, err := d.LinkAlive(key)
		return err == nil && !alive
	})
	if links := mustUpgrade(t, d, "newer"); links != 0 {
		t.Errorf("%d cgroups upgraded, want none", links)
	}
}

func TestUpgradeCompletesTheOptionsGuardAndTakesItAway(t *testing.T) {
	d, g := loadVariant(t, newStateDir(t), "old", sameButForATag), newGroup(t)
	key := g.attach(t, d)
	for _, guard := range cgroupGuards {
		if err := os.Remove(d.layout.link(key) + guard.suffix); err != nil {
			t.Fatal(err)
		}
	}
	mustUpgrade(t, d, "new")
	wantOneVersion(t, d, "new") // which looks for the guards, too

	// Switched off stays switched off.
	s := defaults
	s.WithoutGuards = Guards[:]
	off := load(t, s)
	g.attach(t, off)
	mustUpgrade(t, off, "new")
	states, err := off.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range states {
		if !state.SwitchedOff() {
			t.Errorf("after the upgrade: %+v", state)
		}
	}
}

func TestUpgradeRefusesToLoseAGuard(t *testing.T) {
	d := loadVariant(t, newStateDir(t), "old", sameButForATag)
	// As if the old version had loaded a guard that this kernel does not give the new one.
	splice := hook{bpf.GuardProgRefuseSpliceFile, "security_file_permission"}
	pin := filepath.Join(d.layout.pin(guardsDir), GuardSplice+"-"+splice.pinName())
	states, err := d.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	if states[0].Active {
		wantGuardExchanged(t, d, states[0])
		return
	}
	if err := os.Symlink("a link", pin); err != nil {
		t.Fatal(err)
	}
	before := d.Digest()
	if _, err = d.Upgrade(upgradeTo(t, "new", nil)); !errors.Is(err, ErrGuardLost) {
		t.Fatalf("%v, want ErrGuardLost", err)
	}
	if _, err := os.Lstat(pin); err != nil || d.Digest() != before {
		t.Errorf("the refused upgrade changed something: %v, %q", err, d.Digest())
	}
	u := upgradeTo(t, "new", nil)
	u.LoseGuards = true
	if _, err := d.Upgrade(u); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(pin); err == nil {
		t.Error("the guard that was given up is still pinned")
	}
	wantOneVersion(t, d, "new")
}

// wantGuardExchanged is for kernels that take tracing guards: after an upgrade, new links have replaced the
// old ones.
func wantGuardExchanged(t *testing.T, d *Datapath, before GuardState) {
	t.Helper()
	pins := func() map[string]ebpf.ProgramID {
		ids := map[string]ebpf.ProgramID{}
		for _, name := range namesIn(t, d.layout.pin(guardsDir)) {
			if !strings.HasSuffix(name, reasonSuffix) && !strings.HasSuffix(name, programSuffix) {
				ids[name] = bpftest.ProgramOf(t, filepath.Join(d.layout.pin(guardsDir), name))
			}
		}
		return ids
	}
	old := pins()
	mustUpgrade(t, d, "new")
	states, err := d.GuardStates()
	if err != nil || states[0] != before {
		t.Errorf("guards after the upgrade: %+v, %v; want %+v", states, err, before)
	}
	for name, id := range pins() {
		if was, ok := old[name]; !ok || was == id {
			t.Errorf("guard %s runs program %d, and %d before", name, id, was)
		}
	}
}

func TestLostGuardsAreReported(t *testing.T) {
	building := layout{newStateDir(t), "new-1"}
	mkdir(t, building.state())
	mkdir(t, building.pin(guardsDir))
	if err := pinReason(filepath.Join(building.pin(guardsDir), GuardSplice), errors.New("refused")); err != nil {
		t.Fatal(err)
	}
	states := func(active string) (all []GuardState) {
		for _, name := range Guards {
			all = append(all, GuardState{Name: name, Active: name == active})
		}
		return all
	}
	if err := compareGuards(states(""), building); err != nil {
		t.Errorf("none ran: %v", err)
	}
	if err := compareGuards(states(GuardSplice), building); !errors.Is(err, ErrGuardLost) ||
		!strings.Contains(err.Error(), "splice: refused") {
		t.Errorf("%v, want an ErrGuardLost with the reason", err)
	}
}

func TestUpgradeRefusesMapsOfAnotherShape(t *testing.T) {
	d := loadVariant(t, newStateDir(t), "old", sameButForATag)
	pin := d.layout.pin(bpf.SockmapMapAvoid)
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 16, ValueSize: 8, MaxEntries: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(pin); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Upgrade(upgradeTo(t, "new", nil)); !errors.Is(err, ErrForeignState) {
		t.Errorf("%v, want a StateError", err)
	}
	if d.Digest() == "" {
		t.Error("the refused upgrade changed something")
	}
}
