// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Conversion converts an entry of another ABI's map to this ABI; without newKey the entry is dropped. It is
// called for config and for the maps that Replace carries over, with the names of their pins. A value of
// totals is that of one CPU.
type Conversion func(pin string, key, value []byte) (newKey, newValue []byte, err error)

// Conversions are those from older ABIs. A change that raises ABI adds one here, or state of the old ABI can
// only be unloaded.
var Conversions = map[uint32]Conversion{1: fromABI1, 2: fromABI2}

// fromABI2 is the Conversion from ABI 2. Only the state of a socket had another order there, which Replace
// does not carry over.
func fromABI2(_ string, key, value []byte) (newKey, newValue []byte, err error) {
	return key, value, nil
}

// In every ABI the config map begins with the ABI and the kill switch.
const (
	abiOffset      = 0
	disabledOffset = 4
)

// Leftovers are states beside the one in force.
type Leftovers struct {
	Unfinished bool     // of killed calls
	Older      []uint32 // ABIs that were replaced, but that a killed Replace has left in force
	Draining   []uint32 // ABIs of draining states; this ABI: state of another size, or with other guards
}

// FindLeftovers reads the state directory dir. If it does not exist there are none.
func FindLeftovers(dir string) (found Leftovers, err error) {
	defer spellError(&err)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, fmt.Errorf("read state directory: %w", err)
	}
	for _, e := range entries {
		abi, draining, ok := parseStateName(e.Name())
		switch {
		case unfinished(e.Name()):
			found.Unfinished = true
		case !ok || abi > ABI || abi == ABI && !draining:
		case draining:
			found.Draining = append(found.Draining, abi)
		default:
			found.Older = append(found.Older, abi)
		}
	}
	return found, nil
}

// rawConfig reads the config map of another ABI and makes sure that it is one.
func rawConfig(l layout, abi uint32) (m *ebpf.Map, value []byte, err error) {
	path := l.pin(bpf.SockmapMapConfig)
	if m, err = ebpf.LoadPinnedMap(path, nil); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, missing(path, err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open pinned map %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.Type() != ebpf.Array || m.ValueSize() < disabledOffset+4 {
		return m, nil, &StateError{Path: path, Found: "a " + m.Type().String(), Own: "an Array of config"}
	}
	if value, err = m.LookupBytes(uint32(0)); err != nil {
		return m, nil, fmt.Errorf("read config map: %w", err)
	}
	if found := binary.NativeEndian.Uint32(value[abiOffset:]); found != abi {
		return m, nil, &StateError{Path: path, Found: fmt.Sprintf("ABI %d", found), Own: fmt.Sprintf("ABI %d", abi)}
	}
	return m, value, nil
}

// switchOld turns the kill switch of an older ABI's state on or off.
func switchOld(l layout, abi uint32, disabled bool) error {
	m, value, err := rawConfig(l, abi)
	if err != nil {
		return err
	}
	defer m.Close()
	var word uint32
	if disabled {
		word = 1
	}
	binary.NativeEndian.PutUint32(value[disabledOffset:], word)
	if err := m.Put(uint32(0), value); err != nil {
		return fmt.Errorf("write config map: %w", err)
	}
	return nil
}

// eachDraining calls f for each state below dir that drains.
func eachDraining(dir string, f func(l layout, abi uint32) error) error {
	found, err := FindLeftovers(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, abi := range found.Draining {
		errs = append(errs, f(layout{dir, stateName(abi)}.draining(), abi))
	}
	return errors.Join(errs...)
}

// Draining is state with live flows that was replaced.
type Draining struct {
	ABI     uint32
	Sockets int
}

// ListDraining returns the number of sockets of each draining state. It takes no lock.
func ListDraining(dir string) (all []Draining, err error) {
	err = within(dir, func(dir string) error {
		return eachDraining(dir, func(l layout, abi uint32) error {
			n, err := socketsLeft(l, 1<<20)
			if err == nil || !errors.Is(err, fs.ErrNotExist) { // removed just now
				all = append(all, Draining{abi, n})
				return err
			}
			return nil
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

// socketsLeft counts the sockhash of an older ABI's state, up to a bound. Sockets leave it when they close.
func socketsLeft(l layout, most int) (n int, err error) {
	m, err := ebpf.LoadPinnedMap(l.pin(bpf.SockmapMapSockets), nil)
	if err != nil {
		return 0, fmt.Errorf("open pinned map: %w", err)
	}
	defer m.Close()
	return countKeys(m, most)
}

// countKeys counts the entries of a map up to a bound.
func countKeys(m *ebpf.Map, most int) (n int, err error) {
	var key []byte
	for n < most {
		// If the key was deleted meanwhile, iteration starts again, so some entries may be counted twice.
		next, err := nextKey(m, key)
		if err != nil || next == nil {
			return n, err
		}
		n, key = n+1, next
	}
	return n, nil
}

func nextKey(m *ebpf.Map, key []byte) ([]byte, error) {
	var at any
	if key != nil {
		at = key
	}
	next, err := m.NextKeyBytes(at)
	if err != nil {
		return nil, fmt.Errorf("list map: %w", err)
	}
	return next, nil
}

// ReapDrained removes draining states without sockets, and returns their ABIs. The caller holds the lock on
// dir.
func ReapDrained(dir string, step func(name string) error) (reaped []uint32, err error) {
	defer spellError(&err)
	err = eachDraining(dir, func(l layout, abi uint32) error {
		if n, err := socketsLeft(l, 1); n > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := step("reap drained"); err != nil {
			return err
		}
		if err := removeState(l); err != nil {
			return fmt.Errorf("remove drained state: %w", err)
		}
		reaped = append(reaped, abi)
		return nil
	})
	return reaped, err
}

// Old is the state of an older ABI that is in force.
type Old struct {
	ABI      uint32
	Version  string // that loaded it
	settings Settings
	config   bpf.SockmapConfig
}

// ReadOld reads the state of an older ABI, if it is the only one in force; else ok is false. It takes no
// lock. It returns a *StateError if this version has no Conversion from that ABI.
func ReadOld(dir string) (old Old, ok bool, err error) {
	err = within(dir, func(dir string) error {
		old, ok, err = readOldIn(dir)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) && !ok {
		return old, false, nil
	}
	return old, ok, err
}

func readOldIn(dir string) (old Old, ok bool, err error) {
	found, err := FindLeftovers(dir)
	if err != nil || len(found.Older) == 0 || exists(current(dir).state()) {
		return old, false, err
	}
	old.ABI = found.Older[len(found.Older)-1]
	l := layout{dir, stateName(old.ABI)}
	if Conversions[old.ABI] == nil {
		return old, false, &StateError{
			Path: l.state(), Found: fmt.Sprintf("ABI %d", old.ABI), Own: "one that it can take over",
		}
	}
	m, value, err := rawConfig(l, old.ABI)
	if err != nil {
		return old, false, err
	}
	defer m.Close()
	key := binary.NativeEndian.AppendUint32(nil, 0)
	if _, value, err = Conversions[old.ABI](bpf.SockmapMapConfig, key, value); err != nil {
		return old, false, fmt.Errorf("convert config of ABI %d: %w", old.ABI, err)
	}
	if len(value) != int(unsafe.Sizeof(old.config)) {
		return old, false, fmt.Errorf("convert config of ABI %d: %d bytes came out", old.ABI, len(value))
	}
	if _, err := binary.Decode(value, binary.NativeEndian, &old.config); err != nil {
		return old, false, fmt.Errorf("convert config of ABI %d: %w", old.ABI, err)
	}
	old.Version = text(old.config.Version[:])
	old.settings.setLive(decodeLive(&old.config))
	sockets, err := ebpf.LoadPinnedMap(l.pin(bpf.SockmapMapSockets), nil)
	if err != nil {
		return old, false, fmt.Errorf("open pinned map: %w", err)
	}
	defer sockets.Close()
	old.settings.MaxSockets = sockets.MaxEntries()
	if err := checkCarried(l, old.ABI); err != nil {
		return old, false, err
	}
	return old, true, nil
}
