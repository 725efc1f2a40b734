// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// restable is state with guards that this kernel has loaded.
func restable(t *testing.T) *Datapath {
	t.Helper()
	var asked [][]string
	s := guarded
	s.Probe = probeOf(inqHazards, inqHazards, &asked)
	d := load(t, s)
	if guardLinks(t, d) == 0 {
		if rest, err := d.RestGuards(); rest || err != nil {
			t.Errorf("without guards: %v, %v", rest, err)
		}
		if inGuest() {
			t.Fatal("no guard runs")
		}
		t.Skip("this kernel takes no tracing programs, make test-vm runs it on kernels that do")
	}
	return d
}

// guardLinks counts the links of guards.
func guardLinks(t *testing.T, d *Datapath) (n int) {
	t.Helper()
	for _, name := range namesIn(t, d.layout.pin(guardsDir)) {
		if !strings.HasSuffix(name, programSuffix) && !strings.HasSuffix(name, reasonSuffix) && name != restingPin {
			n++
		}
	}
	return n
}

// wantRest also checks that no query for guards returns fewer of them.
func wantRest(t *testing.T, d *Datapath, want bool, links int, cured uint32) {
	t.Helper()
	states, err := d.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Active && s.Name != GuardOptions && s.Resting != want {
			t.Errorf("want resting %v: %+v", want, s)
		}
	}
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := d.config()
	if err != nil {
		t.Fatal(err)
	}
	wantRaw := cured
	if want {
		links, wantRaw = 0, 0
	}
	if got := guardLinks(t, d); got != links || cfg.Guarded != cured || raw.Guards != wantRaw {
		t.Errorf("%d links, guarded %#x, in the map %#x; want %d, %#x, %#x", got, cfg.Guarded, raw.Guards, links,
			cured, wantRaw)
	}
}

func mustRest(t *testing.T, d *Datapath, want bool) {
	t.Helper()
	if rest, err := d.RestGuards(); err != nil || rest != want {
		t.Errorf("rest %v, %v; want %v", rest, err, want)
	}
}

func TestUnneededGuardsRest(t *testing.T) {
	d := restable(t)
	links := guardLinks(t, d)
	_, cured := inqGuard(t, d)
	mustRest(t, d, true)
	wantRest(t, d, true, links, cured)
	mustRest(t, d, true)
	wantRest(t, d, true, links, cured)

	g := newGroup(t)
	g.attach(t, d)
	wantRest(t, d, false, links, cured)
	mustRest(t, d, false)
	wantRest(t, d, false, links, cured)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 1000, 1)

	// Its flows outlive a container's link.
	if err := d.Detach(LinkKey{CgroupID: g.id, Manual: true}); err != nil {
		t.Fatal(err)
	}
	mustRest(t, d, false)
	wantRest(t, d, false, links, cured)
	send(t, client, server, 1000, 2)
	client.Close()
	server.Close()
	eventually(t, "they rest", func() bool {
		rest, err := d.RestGuards()
		return rest && err == nil
	})
	wantRest(t, d, true, links, cured)
}

// If a call is killed while guards go to rest or wake up, the next container repairs the state.
func TestGuardsWakeAfterAKillAtAnyStep(t *testing.T) {
	d := restable(t)
	links := guardLinks(t, d)
	_, cured := inqGuard(t, d)
	pins, err := d.guardPins()
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(t)
	key := LinkKey{CgroupID: g.id, Manual: true}
	for name, leave := range map[string]func() error{
		"noted only": d.noteRest,
		"one link is gone": func() error {
			mustRest(t, d, true)
			tries := busyTries
			return attachPinned(pins[0], &tries)
		},
		"all links are back": func() error {
			mustRest(t, d, true)
			if err := d.wakeGuards(); err != nil {
				return err
			}
			return d.noteRest()
		},
		"the map is written": func() error {
			if err := d.noteRest(); err != nil {
				return err
			}
			return d.update(func(c *bpf.SockmapConfig) { c.Guards = cured })
		},
	} {
		if err := leave(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		g.attach(t, d)
		wantRest(t, d, false, links, cured)
		if err := d.Detach(key); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("after %s", name)
		}
	}
}

// An upgrade, and new results of probes, wake resting guards: they run until a call lets them rest again.
func TestProbesAndUpgradesWakeRestingGuards(t *testing.T) {
	d := restable(t)
	links := guardLinks(t, d)
	mustRest(t, d, true)
	if err := d.SetProbed("v2", "later", inqHazards, inqHazards); err != nil {
		t.Fatal(err)
	}
	wantRest(t, d, false, links, inqHazards)
	mustRest(t, d, true)
	u := upgradeTo(t, "new", nil)
	u.Hazards, u.Guarded = inqHazards, inqHazards
	if _, err := d.Upgrade(u); err != nil {
		t.Fatal(err)
	}
	wantRest(t, d, false, links, inqHazards)
	mustRest(t, d, true)
	wantRest(t, d, true, links, inqHazards)
}

// An earlier version has not pinned the programs: its guards go on.
func TestGuardsOfEarlierVersionsDoNotRest(t *testing.T) {
	d := restable(t)
	pins, err := d.guardPins()
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range pins {
		if err := os.Remove(pin + programSuffix); err != nil {
			t.Fatal(err)
		}
	}
	_, cured := inqGuard(t, d)
	mustRest(t, d, false)
	wantRest(t, d, false, len(pins), cured)
	if there, err := isThere(filepath.Join(d.layout.pin(guardsDir), restingPin)); there || err != nil {
		t.Errorf("they are noted as resting: %v", err)
	}
}

// An older version, in which guards do not rest, has attached a cgroup while guards rest. The next call wakes
// them.
func TestNeededGuardsAreWokenByNextCall(t *testing.T) {
	d := restable(t)
	links := guardLinks(t, d)
	_, cured := inqGuard(t, d)
	g := newGroup(t)
	key := LinkKey{CgroupID: g.id, Manual: true}
	for name, wake := range map[string]func(){
		"the next session": func() { mustRest(t, d, false) },
		"the next Attach":  func() { g.attach(t, d) },
	} {
		mustRest(t, d, true)
		if err := d.attach(g.dir, bpf.SockmapProgSockOpsAny, ebpf.AttachCGroupSockOps,
			d.layout.link(key)); err != nil {
			t.Fatal(err)
		}
		if wake(); t.Failed() {
			t.Fatal(name)
		}
		wantRest(t, d, false, links, cured)
		if err := d.Detach(key); err != nil {
			t.Fatal(err)
		}
	}
}

// No socket enters the sockhash after Detach, because guards that rest would not see it.
func TestDetachTakesEffectAtOnce(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	l := listen(t, "tcp4", "127.0.0.1:0")
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}
	for range 100 {
		key := g.attach(t, d)
		fd, err := 0, error(nil)
		g.in(t, func() { fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) })
		if err != nil {
			t.Fatal(err)
		}
		err = d.Detach(key)
		if err = errors.Join(err, unix.Connect(fd, to)); err != nil {
			t.Fatal(err)
		}
		entered := 0
		err = d.Flows(func(Flow) bool { entered++; return true })
		unix.Close(fd)
		accept(t, l).Close()
		if err != nil || entered > 0 {
			t.Fatalf("a connection that was made behind Detach is in the sockhash: %d sockets, %v", entered, err)
		}
	}
}

// Leftovers of a killed load of the guard of FIONREAD do not keep the next call from loading it.
func TestUnfinishedGuardIsLoadedAgain(t *testing.T) {
	var asked [][]string
	s := defaults
	s.Probe = probeOf(0, 0, &asked)
	d := load(t, s)
	left := filepath.Join(d.layout.pin(guardsDir),
		GuardFionread+"-"+tracingGuards()[GuardFionread][0][0].pinName()+programSuffix)
	if err := os.Symlink("a program", left); err != nil {
		t.Fatal(err)
	}
	if err := d.SetProbed("v1", "later", inqHazards, inqHazards); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(left); err == nil {
		t.Errorf("what was left is still there: %s", target)
	}
}
