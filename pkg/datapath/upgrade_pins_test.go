// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/bpftest"
)

// pinMap pins a map whose values have this size.
func pinMap(t testing.TB, path string, valueSize uint32) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: valueSize, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(path); err != nil {
		t.Fatal(err)
	}
}

func namesIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestExchangedPinsAreTheNewOnesAndTheKeptOnes(t *testing.T) {
	dir := newStateDir(t)
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, path := range []string{from, to, filepath.Join(from, "links"), filepath.Join(to, "links")} {
		mkdir(t, path)
	}
	for _, name := range []string{"both", "kept", "stale", "links/one"} {
		pinMap(t, filepath.Join(to, name), 4)
	}
	for _, name := range []string{"both", "fresh", "links/two"} {
		pinMap(t, filepath.Join(from, name), 8)
	}
	// A guard that ran before does not any more, and the other way round.
	pinMap(t, filepath.Join(to, "guard"), 4)
	pinMap(t, filepath.Join(from, "other"), 8)
	if err := errors.Join(
		os.Symlink("why", filepath.Join(from, "guard-off")), os.Symlink("why", filepath.Join(to, "other-off")),
		exchangePins(from, to, func(name string) bool { return name == "kept" }),
	); err != nil {
		t.Fatal(err)
	}
	if got, want := namesIn(t, to), []string{"both", "fresh", "guard-off", "kept", "links",
		"other"}; !slices.Equal(got, want) {
		t.Errorf("pins %q, want %q", got, want)
	}
	if got := append(namesIn(t, from), namesIn(t, filepath.Join(to, "links"))...); !slices.Equal(got,
		[]string{"links", "one"}) {
		t.Errorf("subdirectories were touched: %q", got)
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(to, "both"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.ValueSize() != 8 {
		t.Error("the pin that both have is still the old one")
	}
}

// The exchange of pins relies on this: during a rename(2) over a pin, the name is never missing. It renames
// until the pin has been opened often enough, however the machine shares its time between the two.
func TestRenamingOverAPinIsAtomic(t *testing.T) {
	const rounds = 500
	dir := newStateDir(t)
	pin, next := filepath.Join(dir, "pin"), filepath.Join(dir, "next")
	pinMap(t, pin, 4)
	opened := make(chan error, 1)
	go func() {
		for range rounds {
			m, err := ebpf.LoadPinnedMap(pin, nil)
			if err != nil {
				opened <- err
				return
			}
			m.Close()
		}
		opened <- nil
	}()
	deadline := time.Now().Add(time.Minute)
	for renamed := 0; ; renamed++ {
		select {
		case err := <-opened:
			if err != nil {
				t.Error(err)
			}
			if renamed == 0 {
				t.Error("no rename while the pin was opened")
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pin was not opened %d times in a minute", rounds)
		}
		pinMap(t, next, 4+4*uint32(renamed%2))
		if err := os.Rename(next, pin); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExchangedLinkKeepsItsPlace(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	key := g.attach(t, d)
	other := bpftest.SockOps(t)
	before := bpftest.ProgramOf(t, d.layout.link(key))
	if err := exchangeProgram(d.layout.link(key), other); err != nil {
		t.Fatal(err)
	}
	info, err := other.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	if now := bpftest.ProgramOf(t, d.layout.link(key)); now != id || now == before {
		t.Errorf("the link runs %d, want %d", now, id)
	}
	// A program of another kind is refused by the kernel, and the link stays as it is.
	verdict, err := d.program(bpf.SockmapProgVerdict)
	if err != nil {
		t.Fatal(err)
	}
	if err := exchangeProgram(d.layout.link(key), verdict); err == nil ||
		!strings.Contains(err.Error(), key.String()) {
		t.Errorf("%v, want an error that names the link", err)
	}
	if now := bpftest.ProgramOf(t, d.layout.link(key)); now != id {
		t.Errorf("the link runs %d, want %d", now, id)
	}
}
