// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// CheckMaps reports whether the programs of this version can use the pinned maps, by the same check as
// Upgrade. It returns a *StateError for a map of another shape. It changes nothing and takes no lock.
func (d *Datapath) CheckMaps() error {
	spec, err := bpf.LoadSockmap()
	if err != nil {
		return fmt.Errorf("read embedded programs: %w", err)
	}
	pinned, err := d.pinnedMaps(spec)
	closeMaps(pinned)
	return err
}

// pinnedMaps opens the maps of spec that are pinned. Others are new in this version.
func (d *Datapath) pinnedMaps(spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
	pinned := map[string]*ebpf.Map{}
	for name, m := range spec.Maps {
		path := d.layout.pin(name)
		if strings.HasPrefix(m.Name, ".") || !exists(path) {
			continue
		}
		opened, err := ebpf.LoadPinnedMap(path, nil)
		if err == nil {
			if err = checkShape(m, opened, path); err != nil {
				opened.Close()
			}
		}
		if err != nil {
			closeMaps(pinned)
			return nil, fmt.Errorf("open pinned map %s: %w", path, err)
		}
		pinned[name] = opened
	}
	return pinned, nil
}

// allPinnedMaps is pinnedMaps for programs that are added to a loaded state and need all their maps there.
// The error wraps fs.ErrNotExist if one is missing.
func (d *Datapath) allPinnedMaps(spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
	pinned, err := d.pinnedMaps(spec)
	if err != nil {
		return nil, err
	}
	for name, m := range spec.Maps {
		if pinned[name] == nil && !strings.HasPrefix(m.Name, ".") {
			closeMaps(pinned)
			return nil, fmt.Errorf("open pinned map %s: %w", d.layout.pin(name), fs.ErrNotExist)
		}
	}
	return pinned, nil
}

func closeMaps(maps map[string]*ebpf.Map) error {
	var errs []error
	for _, m := range maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// checkShape compares everything but the number of entries, which depends on settings.
func checkShape(want *ebpf.MapSpec, found *ebpf.Map, path string) error {
	want = want.Copy()
	want.MaxEntries = found.MaxEntries()
	err := want.Compatible(found)
	if err == nil {
		return nil
	}
	if !errors.Is(err, ebpf.ErrMapIncompatible) {
		return err
	}
	return &StateError{
		Path: path, Found: shapeOf(found.Type(), found.KeySize(), found.ValueSize(), found.Flags()),
		Own: shapeOf(want.Type, want.KeySize, want.ValueSize, want.Flags),
	}
}

func shapeOf(kind ebpf.MapType, key, value, flags uint32) string {
	return fmt.Sprintf("a %s with keys of %d bytes, values of %d bytes and flags %#x", kind, key, value, flags)
}

// checkCarried tries the Conversion of an older ABI on a value of zeros of each map that Replace carries
// over, so that a map of a size that the Conversion does not know is found before anything is changed.
func checkCarried(old layout, abi uint32) error {
	for _, m := range carried {
		if err := checkConversion(old.pin(m.pin), m.pin, m.valueSize, abi); err != nil {
			return err
		}
	}
	return nil
}

func checkConversion(path, pin string, valueSize uintptr, abi uint32) error {
	from, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // this ABI had no such map
	}
	if err != nil {
		return fmt.Errorf("open pinned map %s: %w", path, err)
	}
	defer from.Close()
	key, value, err := Conversions[abi](pin, make([]byte, from.KeySize()), make([]byte, from.ValueSize()))
	if err == nil && (key == nil || len(value) == int(valueSize)) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%d bytes come out, not %d", len(value), valueSize)
	}
	return &StateError{
		Path: path, Found: shapeOf(from.Type(), from.KeySize(), from.ValueSize(), from.Flags()),
		Own: fmt.Sprintf("that of ABI %d: %v", abi, err),
	}
}
