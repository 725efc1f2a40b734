// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// damages are states other than its own that a forced unload may find. In each of them flows stay redirected.
var damages = []struct {
	name   string
	damage func(t *testing.T, d *Datapath)
}{
	{"nothing is wrong", func(*testing.T, *Datapath) {}},
	{"a newer ABI", func(t *testing.T, d *Datapath) { becomeABI(t, d, ABI+1) }},
	{"a newer ABI that drains", func(t *testing.T, d *Datapath) {
		becomeABI(t, d, ABI+1)
		newer := layout{d.Dir(), stateName(ABI + 1)}
		renamePin(t, newer.state(), newer.draining().state())
	}},
	{"an older ABI without a conversion", func(t *testing.T, d *Datapath) { becomeABI(t, d, 0) }},
	{"the rest of a killed removal", func(t *testing.T, d *Datapath) {
		renamePin(t, d.layout.state(), d.layout.building(1).state())
	}},
	{"the config map has no pin", func(t *testing.T, d *Datapath) { removePins(t, d, bpf.SockmapMapConfig) }},
	{"a config map of another size", func(t *testing.T, d *Datapath) {
		removePins(t, d, bpf.SockmapMapConfig)
		newPinned(t, d.layout, bpf.SockmapMapConfig, &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 16,
			MaxEntries: 1})
	}},
	{"only sock_ops is left", func(t *testing.T, d *Datapath) {
		removePins(t, d, bpf.SockmapMapConfig, bpf.SockmapProgVerdict, bpf.SockmapMapSockets, bpf.SockmapProgRearm)
	}},
	{"only the sockhash is left", func(t *testing.T, d *Datapath) { keepPins(t, d, bpf.SockmapMapSockets) }},
	{"only links are left", func(t *testing.T, d *Datapath) { keepPins(t, d, linksDir) }},
}

func becomeABI(t *testing.T, d *Datapath, abi uint32) {
	t.Helper()
	if err := d.update(func(c *bpf.SockmapConfig) { c.Abi = abi }); err != nil {
		t.Fatal(err)
	}
	renamePin(t, d.layout.state(), layout{d.Dir(), stateName(abi)}.state())
}

func renamePin(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func removePins(t *testing.T, d *Datapath, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.RemoveAll(d.layout.pin(name)); err != nil {
			t.Fatal(err)
		}
	}
}

func keepPins(t *testing.T, d *Datapath, kept string) {
	t.Helper()
	entries, err := os.ReadDir(d.layout.state())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != kept {
			removePins(t, d, e.Name())
		}
	}
}

// watched is loaded state with a flow. Its maps stay open, also when the pins are removed.
type watched struct {
	*Datapath
	client, server *net.TCPConn
}

func newWatched(t *testing.T) watched {
	t.Helper()
	dir, g := newStateDir(t), newGroup(t)
	d, err := Load(dir, defaults)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Unload(dir, true); err != nil {
			t.Error(err)
		}
		d.Close()
	})
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, client, server, d, true)
	w := watched{d, client, server}
	w.redirected(t) // opens what it needs
	return w
}

// redirected is how many bytes the client has sent past TCP.
func (w watched) redirected(t *testing.T) uint64 {
	t.Helper()
	f, ok := flowOf(t, w.Datapath, w.client)
	if !ok {
		t.Fatal("the flow is not in the sockhash")
	}
	return f.RedirectedBytes
}

// settled is a little longer than the time for which a flow with unread bytes may stay redirected, see
// bpf/change.h.
const settled = 1200 * time.Millisecond

// wantNothingRedirected expects that no byte is redirected while the stream runs.
func (w watched) wantNothingRedirected(t *testing.T, when string) {
	t.Helper()
	fixture.Elapse(settled, "a second, by which the change to TCP is done")
	from, segments := w.redirected(t), tcpInfo(t, w.client).Data_segs_out
	eventually(t, "more was sent", func() bool { return tcpInfo(t, w.client).Data_segs_out >= segments+20 })
	if n := w.redirected(t) - from; n != 0 {
		t.Errorf("%d bytes were redirected %s", n, when)
	}
}

func TestAForcedUnloadLeavesNothingRedirected(t *testing.T) {
	for _, tt := range damages {
		t.Run(tt.name, func(t *testing.T) {
			w := newWatched(t)
			before := w.redirected(t)
			stream(t, w.client, w.server, func() {
				eventually(t, "the stream is redirected", func() bool { return w.redirected(t) > before })
				tt.damage(t, w.Datapath)
				if err := Unload(w.Dir(), true); err != nil {
					t.Error(err)
				}
				w.wantNothingRedirected(t, "after the unload")
			})
			if _, err := os.Stat(w.Dir()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the state directory is still there: %v", err)
			}
		})
	}
}

// A writer whose reader is always behind changes to TCP a certain time after the switch was turned.
func TestAForcedUnloadReachesFlowsWithUnreadBytes(t *testing.T) {
	for _, i := range []int{0, 1, 5} {
		tt := damages[i]
		t.Run(tt.name, func(t *testing.T) {
			w := newWatched(t)
			all := pattern(make([]byte, 3000), 7)
			write := func(part []byte) {
				if _, err := w.client.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			before := w.redirected(t)
			write(all[:1000])
			if n := w.redirected(t) - before; n != 1000 {
				t.Fatalf("%d bytes were redirected, want 1000", n)
			}
			tt.damage(t, w.Datapath)
			if err := Unload(w.Dir(), true); err != nil {
				t.Fatal(err)
			}
			fixture.Elapse(settled, "a second, by which the change to TCP is done")
			write(all[1000:])
			if n := w.redirected(t) - before; n != 1000 {
				t.Errorf("%d bytes were redirected after the unload", n-1000)
			}
			receive(t, w.server, all)
		})
	}
}

// If the kill switch cannot be turned, the pins stay, because only they lead to the flows.
func TestAnUnloadThatCannotSwitchOffRemovesNothing(t *testing.T) {
	w := newWatched(t)
	m, err := w.mapOf(bpf.SockmapMapConfig, unsafe.Sizeof(bpf.SockmapConfig{}))
	if err != nil {
		t.Fatal(err)
	}
	becomeABI(t, w.Datapath, ABI+1)
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	newer := layout{w.Dir(), stateName(ABI + 1)}
	t.Cleanup(func() {
		if err := errors.Join(os.RemoveAll(newer.state()), os.Remove(w.Dir())); err != nil {
			t.Error(err)
		}
	})
	if err := Unload(w.Dir(), true); !errors.Is(err, ErrStillRedirected) {
		t.Errorf("unload: %v, want %v", err, ErrStillRedirected)
	}
	if _, err := os.Stat(newer.pin(bpf.SockmapMapSockets)); err != nil {
		t.Errorf("what leads to the flows was removed: %v", err)
	}
}

func TestDamagedStateNamesTheWayOut(t *testing.T) {
	for _, name := range []string{bpf.SockmapMapConfig, bpf.SockmapMapSockets} {
		t.Run(name, func(t *testing.T) {
			d := load(t, defaults)
			removePins(t, d, name)
			fresh, err := Open(d.Dir())
			if err == nil {
				_, err = fresh.Config()
				fresh.Close()
			}
			var state *StateError
			if !errors.As(err, &state) || !errors.Is(err, fs.ErrNotExist) ||
				!strings.Contains(err.Error(), "sockmapctl unload --force") ||
				!strings.Contains(err.Error(), name+" is missing") {
				t.Errorf("open: %v", err)
			}
			if err := Unload(d.Dir(), false); name == bpf.SockmapMapConfig && !errors.Is(err, ErrForeignState) {
				t.Errorf("unload: %v", err)
			}
			if err := Unload(d.Dir(), true); err != nil {
				t.Error(err)
			}
			again, err := Load(newStateDir(t), defaults)
			if err != nil {
				t.Fatal(err)
			}
			again.Close()
		})
	}
}

// What is unloaded while a handle is open is not damaged.
func TestUnloadedMeanwhileIsNotLoaded(t *testing.T) {
	d := load(t, defaults)
	fresh, err := Open(d.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if err := Unload(d.Dir(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Totals(); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("%v, want %v", err, ErrNotLoaded)
	}
}

func TestUnloadLeavesAForeignDirectoryAlone(t *testing.T) {
	dir := newStateDir(t)
	newPinned(t, layout{dir, "."}, "cilium_calls", &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4,
		MaxEntries: 1})
	mkdir(t, filepath.Join(dir, "devices"))
	for _, force := range []bool{false, true} {
		err := Unload(dir, force)
		if !errors.Is(err, ErrForeignState) || !strings.Contains(err.Error(), "bpffsPath") ||
			strings.Contains(err.Error(), "--force") {
			t.Errorf("force %v: %v", force, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestFlowsWithoutAnyPinAreFoundAndSwitchedOff(t *testing.T) {
	w := newWatched(t)
	id, _ := mapID(w.maps[bpf.SockmapMapConfig])
	mine := func() *Stray {
		all, err := FindStrays()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			if s.Config == id {
				return &s
			}
		}
		return nil
	}
	if s := mine(); s != nil {
		t.Errorf("pinned, and a stray: %+v", s)
	}
	if err := os.RemoveAll(w.layout.state()); err != nil {
		t.Fatal(err)
	}
	before := w.redirected(t)
	stream(t, w.client, w.server, func() {
		eventually(t, "the stream is redirected", func() bool { return w.redirected(t) > before })
		s := mine()
		if s == nil || s.ABI != ABI || s.Sockets != 2 || s.Sure != seesAllProcesses() {
			t.Errorf("found %+v, want both sockets", s)
			return
		}
		if err := s.SwitchOff(); err != nil {
			t.Error(err)
		}
		w.wantNothingRedirected(t, "after the switch")
	})
	if s := mine(); s != nil {
		t.Errorf("switched off, and a stray: %+v", s)
	}
}

// State that another mount namespace has pinned is no stray.
func TestPinsOfAnotherMountNamespaceAreSeen(t *testing.T) {
	w := newWatched(t)
	id, _ := mapID(w.maps[bpf.SockmapMapConfig])
	inMountNS(t, func() error {
		// This thread does not see it any more; the process does.
		if err := unix.Unmount(filepath.Dir(w.Dir()), unix.MNT_DETACH); err != nil {
			return err
		}
		pins, err := findPins()
		if err == nil && len(pins.dirs[id]) != 1 {
			t.Errorf("found %q", pins.dirs[id])
		}
		return err
	})
}

func TestMarksOutliveAnUnloadOnRequest(t *testing.T) {
	dir := newStateDir(t)
	loaded := func() Config {
		t.Helper()
		d, err := Load(dir, defaults)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		cfg, err := d.Config()
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	unload := func(want bool) {
		t.Helper()
		if unloaded, err := UnloadOnRequest(dir, false); unloaded != want || err != nil {
			t.Errorf("unloaded %v, %v; want %v", unloaded, err, want)
		}
	}
	loaded()
	unload(true)
	unload(false)
	if at, ok := UnloadedOnRequest(dir); !ok || time.Since(at) > time.Minute || StaysDisabled(dir) {
		t.Errorf("marked %v at %v, disabled %v", ok, at, StaysDisabled(dir))
	}
	if _, err := Open(dir); !errors.Is(err, ErrNotLoaded) ||
		!strings.Contains(err.Error(), "unloaded with sockmapctl unload") {
		t.Errorf("open: %v", err)
	}
	if cfg := loaded(); cfg.Disabled {
		t.Error("it is disabled, and nobody wanted that")
	}
	if _, ok := UnloadedOnRequest(dir); ok {
		t.Error("the mark outlived a load")
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.SetDisabled(true), d.Close()); err != nil {
		t.Fatal(err)
	}
	unload(true)
	unload(false)
	if cfg := loaded(); !cfg.Disabled {
		t.Error("a load took disable back")
	}
	if err := Unload(dir, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unload that nobody asked for left %v", err)
	}
}
