// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
)

// fromABI0 is the conversion from an ABI that tests invent: attachments had eight bytes more at their end.
func fromABI0(pin string, key, value []byte) ([]byte, []byte, error) {
	if pin == bpf.SockmapMapAttachments {
		value = value[:len(value)-8]
	}
	return key, value, nil
}

// makeOld turns what is loaded into state of ABI 0, as if that had been loaded. Programs, links and flows go
// on.
func makeOld(t testing.TB, d *Datapath) layout {
	t.Helper()
	Conversions[0] = fromABI0
	t.Cleanup(func() { delete(Conversions, 0) })
	if err := d.update(func(c *bpf.SockmapConfig) { c.Abi = 0 }); err != nil {
		t.Fatal(err)
	}
	records, err := d.attachments()
	if err != nil {
		t.Fatal(err)
	}
	wide, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Hash, KeySize: 32, ValueSize: uint32(unsafe.Sizeof(bpf.SockmapAttachment{})) + 8,
		MaxEntries: 16384, Flags: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	for key, err := nextKey(records, nil); key != nil || err != nil; key, err = nextKey(records, key) {
		value, lookupErr := records.LookupBytes(key)
		if err := errors.Join(err, lookupErr, wide.Put(key, append(value, "appendix"...))); err != nil {
			t.Fatal(err)
		}
	}
	old := layout{d.layout.dir, stateName(0)}
	pin := d.layout.pin(bpf.SockmapMapAttachments)
	if err := errors.Join(os.Remove(pin), wide.Pin(pin), os.Rename(d.layout.state(), old.state()),
		d.Close()); err != nil {
		t.Fatal(err)
	}
	old.dir = d.Dir()
	return old
}

func mustReplace(t testing.TB, dir string) *Datapath {
	t.Helper()
	old, ok, err := ReadOld(dir)
	if !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	if _, err := Replace(dir, old, upgradeTo(t, "new", nil)); err != nil {
		t.Fatal(err)
	}
	return openState(t, dir)
}

// drainAs opens the draining state, which differs from this ABI in the records only. Those are read from d.
func drainAs(t testing.TB, old layout, current *Datapath) *Datapath {
	t.Helper()
	d := open(old.draining())
	records, err := current.attachments()
	if err != nil {
		t.Fatal(err)
	}
	if d.maps[bpf.SockmapMapAttachments], err = records.Clone(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func noStep(string) error { return nil }

func TestOldStateDrainsWhileNewConnectionsUseTheNewState(t *testing.T) {
	g := newGroup(t)
	loaded := load(t, defaults)
	dir := loaded.Dir()
	g.attach(t, loaded)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, client, server, loaded, true)
	old := makeOld(t, loaded)

	d := mustReplace(t, dir)
	draining := drainAs(t, old, d)
	wantRedirect(t, client, server, draining, true)
	wantRedirect(t, server, client, draining, true)
	if n := socketsIn(t, d); n != 0 {
		t.Errorf("%d sockets in the new sockhash, want none", n)
	}
	fresh, peer := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, fresh, peer, d, true)
	wantRedirect(t, peer, fresh, d, true)
	if n := socketsIn(t, draining); n != 2 {
		t.Errorf("%d sockets in the old sockhash, want the two old ones", n)
	}
	if all, err := ListDraining(dir); err != nil || !slices.Equal(all, []Draining{{0, 2}}) {
		t.Errorf("draining: %v, %v", all, err)
	}
	if reaped, err := ReapDrained(dir, noStep); len(reaped) != 0 || err != nil {
		t.Errorf("reaped %v, %v with live flows", reaped, err)
	}

	// Bytes that nobody has read yet outlive the writer.
	want := pattern(make([]byte, 5000), 3)
	if _, err := client.Write(want); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if reaped, err := ReapDrained(dir, noStep); len(reaped) != 0 || err != nil {
		t.Errorf("reaped %v, %v with an unread flow", reaped, err)
	}
	receive(t, server, want)
	wantEOF(t, server)
	server.Close()
	eventually(t, "the old state has drained", func() bool {
		reaped, err := ReapDrained(dir, noStep)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Equal(reaped, []uint32{0})
	})
	if _, err := os.Stat(old.draining().state()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the drained state is still there: %v", err)
	}
	wantRedirect(t, fresh, peer, d, true)
	wantOneVersion(t, d, "new")
}

func TestKillSwitchAndUnloadReachDrainingFlows(t *testing.T) {
	g := newGroup(t)
	loaded := load(t, defaults)
	g.attach(t, loaded)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	silent, silentServer := g.pair(t, "tcp4", "127.0.0.1:0") // while the switch is on
	old := makeOld(t, loaded)
	d := mustReplace(t, loaded.Dir())
	draining := drainAs(t, old, d)
	wantRedirect(t, client, server, draining, true)
	if err := d.SetDisabled(true); err != nil {
		t.Fatal(err)
	}
	wantRedirect(t, client, server, draining, false)
	if err := d.SetDisabled(false); err != nil {
		t.Fatal(err)
	}
	wantRedirect(t, silent, silentServer, draining, true)
	sums := open(old.draining())
	defer sums.Close()
	if _, err := sums.mapOf(bpf.SockmapMapConfig, unsafe.Sizeof(bpf.SockmapConfig{})); err != nil {
		t.Fatal(err)
	}
	if err := Unload(d.Dir(), false); err != nil {
		t.Fatal(err)
	}
	// Its pin is gone, but the map is that which the verdicts of live sockets read.
	if cfg, err := sums.config(); err != nil || cfg.Disabled != 1 {
		t.Errorf("kill switch of what drained: %+v, %v", cfg, err)
	}
	send(t, client, server, 5000, 4)
	send(t, server, client, 5000, 5)
}

func TestLinkIsReplacedInAFullCgroup(t *testing.T) {
	loaded, g := load(t, defaults), newGroup(t)
	key := g.attach(t, loaded)
	bpftest.Crowd(t, g.dir.Name(), 63)
	makeOld(t, loaded)
	d := mustReplace(t, loaded.Dir())
	if alive, err := d.LinkAlive(key); !alive || err != nil {
		t.Errorf("link alive: %v, %v", alive, err)
	}
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, client, server, d, true)
}

func TestStateOfAnABIWithoutConversionIsRefused(t *testing.T) {
	loaded := load(t, defaults)
	makeOld(t, loaded)
	delete(Conversions, 0)
	if _, err := Open(loaded.Dir()); !errors.Is(err, ErrForeignState) ||
		!strings.Contains(err.Error(), "unload --force") ||
		strings.Contains(err.Error(), "upgrade") {
		t.Errorf("open: %v", err)
	}
	if _, _, err := ReadOld(loaded.Dir()); !errors.Is(err, ErrForeignState) {
		t.Errorf("read: %v", err)
	}
	Conversions[0] = fromABI0
	if _, err := Open(loaded.Dir()); !errors.Is(err, ErrForeignState) ||
		!strings.Contains(err.Error(), "sockmapctl upgrade") {
		t.Errorf("open: %v", err)
	}
	if err := Unload(loaded.Dir(), true); err != nil {
		t.Error(err)
	}
}

// A connection may be made at any moment of an upgrade, and loses nothing, whichever state its ends belong
// to.
func TestConnectionsMadeAtAnyStepOfAnUpgradeLoseNothing(t *testing.T) {
	type ends struct {
		at             string
		client, server net.Conn
	}
	for _, how := range []string{"programs", "maps", "size"} {
		t.Run(how, func(t *testing.T) {
			d, g := loadVariant(t, newStateDir(t), "old", sameButForATag), newGroup(t)
			dir := d.Dir()
			g.attach(t, d)
			var all []ends
			exchange := func(e ends) {
				for i := range uint64(2) {
					send(t, e.client, e.server, 3000, i)
					send(t, e.server, e.client, 3000, i)
				}
			}
			u := upgradeTo(t, "new", func(step string) error {
				client, server := g.pair(t, "tcp4", "127.0.0.1:0")
				all = append(all, ends{step, client, server})
				for _, e := range all {
					exchange(e)
				}
				return nil
			})
			switch how {
			case "programs":
				if _, err := d.Upgrade(u); err != nil {
					t.Fatal(err)
				}
			case "size":
				u.MaxSockets = 4096
				if _, err := Resize(dir, u); err != nil {
					t.Fatal(err)
				}
			default:
				makeOld(t, d)
				old, _, err := ReadOld(dir)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Replace(dir, old, u); err != nil {
					t.Fatal(err)
				}
			}
			if len(all) < 7 {
				t.Fatalf("%d steps", len(all))
			}
			for _, e := range all {
				want := pattern(make([]byte, 2000), 9)
				deadline(t, e.client)
				if _, err := e.client.Write(want); err != nil {
					t.Fatalf("connection made at step %s: %v", e.at, err)
				}
				e.client.Close()
				receive(t, e.server, want)
				wantEOF(t, e.server)
				e.server.Close()
			}
			eventually(t, "all has drained", func() bool {
				_, err := ReapDrained(dir, noStep)
				left, listErr := ListDraining(dir)
				return err == nil && listErr == nil && len(left) == 0
			})
		})
	}
}

// While the links of both are on a cgroup, the older one takes a socket and the newer one is refused it.
func TestNoSocketIsInTheMapsOfTwoABIs(t *testing.T) {
	loaded, g := load(t, defaults), newGroup(t)
	dir := loaded.Dir()
	g.attach(t, loaded)
	makeOld(t, loaded)
	old, _, err := ReadOld(dir)
	if err != nil {
		t.Fatal(err)
	}
	looked := false
	u := upgradeTo(t, "new", func(step string) error {
		if step != "detach old link" {
			return nil
		}
		looked = true
		g.pair(t, "tcp4", "127.0.0.1:0")
		before, after := open(layout{dir, stateName(0)}), open(current(dir))
		defer before.Close()
		defer after.Close()
		if n := socketsIn(t, before); n != 2 {
			t.Errorf("%d sockets in the old sockhash, want 2", n)
		}
		wantNoSockets(t, after)
		if n := flowsCounted(t, after, RoleActive, Result(bpf.SockmapResultRESULT_ERROR)); n != 1 {
			t.Errorf("%d connections were refused by the newer one, want 1", n)
		}
		return nil
	})
	if _, err := Replace(dir, old, u); err != nil {
		t.Fatal(err)
	}
	if !looked {
		t.Error("there was no such moment")
	}
}
