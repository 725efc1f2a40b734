// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/cilium/ebpf"
)

// Datapath is an open handle on loaded programs and maps. It is not safe for concurrent use.
//
// Pins are opened when they are first needed: an ADD touches five of them, and each costs a system call.
type Datapath struct {
	layout   layout
	maps     map[string]*ebpf.Map
	programs map[string]*ebpf.Program
}

// Open returns a handle on what Load pinned below dir. It takes no lock.
//
// It returns ErrNotLoaded when there is nothing, and a *StateError when what is there is not ours to use.
func Open(dir string) (*Datapath, error) {
	d := &Datapath{layout{dir}, map[string]*ebpf.Map{}, map[string]*ebpf.Program{}}
	if _, err := os.Stat(d.layout.state()); errors.Is(err, fs.ErrNotExist) {
		return nil, d.notLoaded()
	}
	if err := d.checkABI(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Datapath) checkABI() error {
	cfg, err := d.config()
	if err != nil {
		return err
	}
	if cfg.Abi != ABI {
		return &StateError{d.layout.pin(bpfMapConfig), fmt.Sprintf("ABI %d", cfg.Abi), fmt.Sprintf("ABI %d", ABI)}
	}
	return nil
}

// notLoaded tells an empty state directory from one that another version uses.
func (d *Datapath) notLoaded() error {
	entries, err := os.ReadDir(d.layout.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read state directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), buildingPrefix) {
			continue
		}
		return &StateError{d.layout.dir + "/" + e.Name(), fmt.Sprintf("%q", e.Name()), fmt.Sprintf("\"v%d\"", ABI)}
	}
	return fmt.Errorf("%w below %s", ErrNotLoaded, d.layout.dir)
}

// Dir is the state directory that was opened.
func (d *Datapath) Dir() string { return d.layout.dir }

// Close releases all descriptors. Pins, links and sockets stay as they are. It may be called twice.
func (d *Datapath) Close() error {
	var errs []error
	for name, m := range d.maps {
		errs = append(errs, m.Close())
		delete(d.maps, name)
	}
	for name, p := range d.programs {
		errs = append(errs, p.Close())
		delete(d.programs, name)
	}
	return errors.Join(errs...)
}

// mapOf opens the pinned map `name`, whose values must have the size of the Go type that is read into it.
func (d *Datapath) mapOf(name string, valueSize uintptr) (*ebpf.Map, error) {
	if m, ok := d.maps[name]; ok {
		return m, nil
	}
	path := d.layout.pin(name)
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w", path, err)
	}
	if uintptr(m.ValueSize()) != valueSize {
		found := fmt.Sprintf("a %s with values of %d bytes", m.Type(), m.ValueSize())
		m.Close()
		return nil, &StateError{path, found, fmt.Sprintf("%d bytes", valueSize)}
	}
	d.maps[name] = m
	return m, nil
}

func (d *Datapath) program(name string) (*ebpf.Program, error) {
	if p, ok := d.programs[name]; ok {
		return p, nil
	}
	p, err := ebpf.LoadPinnedProgram(d.layout.pin(name), nil)
	if err != nil {
		return nil, fmt.Errorf("open pinned program %s: %w", d.layout.pin(name), err)
	}
	d.programs[name] = p
	return p, nil
}
