// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

func versioned(version string) datapath.Settings {
	s := defaults
	s.Version = version
	return s
}

// loadOther returns a node whose loaded programs seem to be those of another version.
func loadOther(t *testing.T, version string) *Node {
	t.Helper()
	n := newNode(t)
	n.Settings = versioned(version)
	load(t, n)
	markOther(t, n)
	return n
}

func markOther(t testing.TB, n *Node) {
	t.Helper()
	pin := filepath.Join(n.Dir, stateName(datapath.ABI), "programs")
	if err := errors.Join(os.Remove(pin), os.Symlink("sha256:of another version", pin)); err != nil {
		t.Fatal(err)
	}
}

// loaded returns the loaded version, and whether its programs are those of this test.
func loaded(t testing.TB, n *Node) (version string, own bool) {
	t.Helper()
	return configOf(t, n).Version, opened(t, n).Digest() == datapath.Digest()
}

func expectLoaded(t testing.TB, n *Node, version string) {
	t.Helper()
	if got, own := loaded(t, n); got != version || !own {
		t.Fatalf("version %q is loaded, with these programs: %v; want %q with them", got, own, version)
	}
}

// fromABI0 is the conversion from an invented ABI, whose attachments had eight more bytes at the end.
func fromABI0(pin string, key, value []byte) ([]byte, []byte, error) {
	if pin == datapath.MapAttachments {
		value = value[:len(value)-8]
	}
	return key, value, nil
}

// makeOld turns the loaded state into state of ABI 0.
func makeOld(t testing.TB, n *Node) {
	t.Helper()
	datapath.Conversions[0] = fromABI0
	t.Cleanup(func() { delete(datapath.Conversions, 0) })
	state := filepath.Join(n.Dir, stateName(datapath.ABI))
	config := pinned(t, filepath.Join(state, "config"))
	value, err := config.LookupBytes(uint32(0))
	if err != nil {
		t.Fatal(err)
	}
	binary.NativeEndian.PutUint32(value, 0)
	if err := config.Put(uint32(0), value); err != nil {
		t.Fatal(err)
	}
	pin := filepath.Join(state, "attachments")
	attachments := pinned(t, pin)
	wide, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Hash, KeySize: 32, ValueSize: attachments.ValueSize() + 8, MaxEntries: attachments.MaxEntries(),
		Flags: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	key, attachment := make([]byte, 32), make([]byte, attachments.ValueSize())
	for it := attachments.Iterate(); it.Next(&key, &attachment); {
		if err := wide.Put(key, append(bytes.Clone(attachment), "appendix"...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Remove(pin), wide.Pin(pin),
		os.Rename(state, filepath.Join(n.Dir, "v0"))); err != nil {
		t.Fatal(err)
	}
}

func pinned(t testing.TB, path string) *ebpf.Map {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}
