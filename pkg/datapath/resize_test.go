// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

func sizedTo(t *testing.T, maxSockets uint32, without ...string) Takeover {
	u := upgradeTo(t, "new", nil)
	u.MaxSockets, u.WithoutGuards = maxSockets, without
	return u
}

func mustResize(t *testing.T, dir string, u Takeover) *Datapath {
	t.Helper()
	if _, err := Resize(dir, u); err != nil {
		t.Fatal(err)
	}
	return openState(t, dir)
}

// Live flows stay redirected in the state of the old size, new flows belong to the state of the new size, and
// decisions reach both.
func TestTheSizeChangesUnderLiveFlows(t *testing.T) {
	g := newGroup(t)
	loaded := load(t, defaults)
	dir := loaded.Dir()
	key := g.attach(t, loaded)
	if _, err := loaded.SetSwitch(Switch{Kind: SwitchNamespace, Name: "shop"}); err != nil {
		t.Fatal(err)
	}
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, client, server, loaded, true)

	d := mustResize(t, dir, sizedTo(t, 4*defaults.MaxSockets))
	cfg, err := d.Config()
	if err != nil || cfg.MaxSockets != 4*defaults.MaxSockets || cfg.MaxBacklogBytes != defaults.MaxBacklogBytes {
		t.Errorf("config %+v, %v", cfg, err)
	}
	if all, err := d.Switches(); err != nil || len(all) != 1 || all[0].Name != "shop" {
		t.Errorf("switches %v, %v", all, err)
	}
	old, ok := d.draining()
	if !ok {
		t.Fatal("nothing drains")
	}
	t.Cleanup(func() { old.Close() })
	wantRedirect(t, client, server, old, true)
	wantRedirect(t, server, client, old, true)
	fresh, peer := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, fresh, peer, d, true)
	if alive, err := d.LinkAlive(key); !alive || err != nil {
		t.Errorf("link: %v, %v", alive, err)
	}
	if old, err := old.LinkAlive(key); old || err != nil {
		t.Errorf("the old link is alive: %v, %v", old, err)
	}
	if all, err := ListDraining(dir); err != nil || !slices.Equal(all, []Draining{{ABI, 2}}) {
		t.Errorf("draining: %v, %v", all, err)
	}
	_, err = Resize(dir, sizedTo(t, 2048))
	if !errors.Is(err, ErrStillDraining) || !strings.Contains(err.Error(), "2 sockets") {
		t.Errorf("one more change while flows drain: %v", err)
	}

	// A policy and the kill switch reach flows of both.
	cookie := netnstest.Cookie(t)
	if err := d.SetEndpoint(cookie, Policy{Accelerate: false}); err != nil {
		t.Fatal(err)
	}
	wantRedirect(t, client, server, old, false)
	wantRedirect(t, fresh, peer, d, false)
	if err := d.SetEndpoint(cookie, Policy{Accelerate: true}); err != nil {
		t.Fatal(err)
	}
	wantRedirect(t, client, server, old, true)
	if err := d.SetDisabled(true); err != nil {
		t.Fatal(err)
	}
	wantRedirect(t, client, server, old, false)
	if err := d.SetDisabled(false); err != nil {
		t.Fatal(err)
	}
	client.Close()
	wantEOF(t, server)
	server.Close()
	eventually(t, "the old state has drained", func() bool {
		reaped, err := ReapDrained(dir, noStep)
		return err == nil && slices.Equal(reaped, []uint32{ABI})
	})
	mustResize(t, dir, sizedTo(t, 2048))
}

// A kill at any step leaves one state in force, and the next call completes the rest.
func TestKilledResizeIsRepairedByNextCall(t *testing.T) {
	var steps []string
	for at := 0; at == 0 || at <= len(steps); at++ {
		g, loaded := newGroup(t), load(t, defaults)
		dir := loaded.Dir()
		key := g.attach(t, loaded)
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		wantRedirect(t, client, server, loaded, true)
		n := 0
		u := sizedTo(t, 4096)
		u.Step = func(name string) error {
			if at == 0 {
				steps = append(steps, name)
			}
			if n++; n == at {
				return errInterrupted
			}
			return nil
		}
		_, err := Resize(dir, u)
		if (err == nil) != (at == 0) {
			t.Fatalf("at step %d: %v", at, err)
		}
		send(t, client, server, 5000, 4)
		send(t, server, client, 5000, 5)
		d, err := Open(dir)
		if err != nil {
			t.Fatalf("at step %d, %v: nothing is in force: %v", at, steps, err)
		}
		if err := errors.Join(RemoveUnfinished(dir), d.Settle(sizedTo(t, 4096))); err != nil {
			t.Fatalf("at step %d, %v: %v", at, steps, err)
		}
		if alive, err := d.LinkAlive(key); !alive || err != nil {
			t.Errorf("at step %d, %v: link %v, %v", at, steps, alive, err)
		}
		fresh, peer := g.pair(t, "tcp4", "127.0.0.1:0")
		wantRedirect(t, fresh, peer, d, true)
		for _, c := range []interface{ Close() error }{client, server, fresh, peer} {
			c.Close()
		}
		d.Close()
		if err := Unload(dir, false); err != nil {
			t.Fatal(err)
		}
	}
	if len(steps) < 6 {
		t.Errorf("only the steps %v", steps)
	}
}

// Guards change although no size does. Flows that began with a guard keep it.
func TestGuardsChangeUnderLiveFlows(t *testing.T) {
	g, loaded := newGroup(t), load(t, defaults)
	g.attach(t, loaded)
	before, err := loaded.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	off := append(slices.Clone(defaults.WithoutGuards), GuardOptions)
	d := mustResize(t, loaded.Dir(), sizedTo(t, defaults.MaxSockets, off...))
	after, err := d.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range after {
		if g.SwitchedOff() != (g.Name == GuardOptions || before[i].SwitchedOff()) {
			t.Errorf("guard %+v, before %+v", g, before[i])
		}
	}
	again := mustResize(t, loaded.Dir(), sizedTo(t, defaults.MaxSockets, defaults.WithoutGuards...))
	states, err := again.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range states {
		if g.SwitchedOff() != before[i].SwitchedOff() || g.Active != before[i].Active {
			t.Errorf("guard %+v, before %+v", g, before[i])
		}
	}
}
