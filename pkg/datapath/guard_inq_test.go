// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"io"
	"os"
	"slices"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// probeOf is a probe that finds the hazards each time that it runs, except those in cured once a guard may
// run.
func probeOf(hazards, cured uint32, asked *[][]string) Probe {
	return func(_ func(*os.File) (io.Closer, error), names ...string) (uint32, uint32, error) {
		*asked = append(*asked, names)
		if len(names) > 0 {
			hazards &^= cured
		}
		return hazards, 0, nil
	}
}

// inqGuard is the state of the guard, and what is recorded as cured.
func inqGuard(t *testing.T, d *Datapath) (GuardState, uint32) {
	t.Helper()
	states, err := d.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	return states[slices.Index(Guards[:], GuardFionread)], cfg.Guarded
}

func TestTheFionreadGuardIsLoadedOnlyForItsFault(t *testing.T) {
	const splice = 1 // another hazard
	for name, c := range map[string]struct {
		hazards, cured uint32
		without        []string
		asks           int // 2 where the guard loads
		needless       bool
	}{
		"sound kernel": {splice, 0, nil, 1, true},
		"one fault": {splice | uint32(bpf.SockmapAskedHazardHAZARD_FIONREAD_REDIRECTED), inqHazards, nil, 2,
			false},
		"another":       {uint32(bpf.SockmapAskedHazardHAZARD_FIONREAD_TCP), inqHazards, nil, 2, false},
		"does not help": {inqHazards, uint32(bpf.SockmapAskedHazardHAZARD_FIONREAD_TCP), nil, 2, false},
		"switched off":  {inqHazards, inqHazards, []string{GuardFionread}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked [][]string
			s := defaults
			s.WithoutGuards = append(c.without, s.WithoutGuards...)
			s.Probe = probeOf(c.hazards, c.cured, &asked)
			g, cured := inqGuard(t, load(t, s))
			t.Logf("%+v, cured %x, asked %q", g, cured, asked)
			if g.Needless() != c.needless || g.SwitchedOff() != (c.without != nil) {
				t.Errorf("the guard is %+v", g)
			}
			want := uint32(0)
			if g.Active {
				want = c.hazards & c.cured & inqHazards
			}
			if cured != want {
				t.Errorf("%x is recorded as cured, want %x", cured, want)
			}
			// A kernel that refuses tracing programs is not asked again.
			if refused := c.asks == 2 && !g.Active; !refused && len(asked) != c.asks {
				t.Errorf("the probe was asked %d times: %q", len(asked), asked)
			}
		})
	}
}

// State without the guard, because it was not needed, gets the guard when later probes find the fault, with
// the same programs or with others. It never reports a hazard as cured while the guard does not run.
func TestProbesThatComeLaterBringTheFionreadGuard(t *testing.T) {
	for name, later := range map[string]func(d *Datapath) error{
		"probes": func(d *Datapath) error { return d.SetProbed("v1", "later", inqHazards, inqHazards) },
		"upgrade": func(d *Datapath) error {
			u := upgradeTo(t, "new", nil)
			u.Hazards, u.Guarded = inqHazards, inqHazards
			_, err := d.Upgrade(u)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked [][]string
			s := defaults
			s.Probe = probeOf(0, 0, &asked)
			d := load(t, s)
			if g, _ := inqGuard(t, d); !g.Needless() {
				t.Fatalf("at first the guard is %+v", g)
			}
			if err := later(d); err != nil {
				t.Fatal(err)
			}
			g, cured := inqGuard(t, d)
			if g.Needless() || (cured == inqHazards) != g.Active || cured != 0 && !g.Active {
				t.Errorf("the guard is %+v, %x is recorded as cured", g, cured)
			}
		})
	}
}

// If the guard loads, also on a kernel without the fault, FIONREAD counts waiting bytes of both ways exactly.
func TestFionreadCountsBothWaysWithTheGuard(t *testing.T) {
	var asked [][]string
	s := defaults
	s.Probe = probeOf(inqHazards, inqHazards, &asked)
	d, g := load(t, s), newGroup(t)
	state, _ := inqGuard(t, d)
	if !state.Active {
		if inGuest() {
			t.Fatalf("the guard does not run: %s", state.Why)
		}
		t.Skipf("this kernel takes no tracing programs, make test-vm runs it on kernels that do: %s", state.Why)
	}
	g.attach(t, d)
	for _, network := range []string{"tcp4", "tcp6"} {
		client, server := g.pair(t, network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
		send(t, client, server, 1000, 1)
		sent := pattern(make([]byte, 7000), 2)
		for at := 0; at < len(sent); at += 1000 {
			write(t, client, sent[at:at+1000])
		}
		waits := func(what string, want int) {
			t.Helper()
			eventually(t, what, func() bool { return unreadAt(t, server) == want })
		}
		waits("redirected messages count", 7000)
		receive(t, server, sent[:2500])
		waits("the rest of a message counts", 4500)
		// From now on over TCP, behind what was redirected.
		rawConn(t, server).control(t, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 2)
		})
		more := pattern(make([]byte, 300), 3)
		write(t, client, more)
		waits("what came over TCP counts, too", 4800)
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		receive(t, server, sent[2500:])
		waits("TCP's bytes are left, and the end is none", 300)
		receive(t, server, more)
		waits("nothing is left", 0)
	}
}
