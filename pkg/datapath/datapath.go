// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Datapath is an open handle on loaded programs and maps. It is not safe for concurrent use.
//
// Pins are opened when they are first needed: an ADD touches five of them, and each costs a system call.
type Datapath struct {
	dir      *StateDir // nil: layout names what its owner holds open
	layout   layout
	maps     map[string]*ebpf.Map
	programs map[string]*ebpf.Program
	seen     map[ebpf.ProgramID]knownProgram // sock_ops programs of cgroups

	locked      bool               // see OpenLocked
	knownConfig *bpf.SockmapConfig // the config map as this handle read or wrote it last; nil: read it
	// ConfigReads counts the lookups of the config map, for tests that bound them.
	ConfigReads int
}

// OpenLocked is Open for a process that holds the lock of dir for as long as it uses the handle. Nobody else
// writes the configuration meanwhile, so the handle reads it once.
func OpenLocked(dir string) (*Datapath, error) { return openDir(dir, true) }

// Open returns a handle on what Load pinned below dir. It takes no lock.
//
// It returns ErrNotLoaded when there is nothing, and a *StateError when what is there is not ours to use.
func Open(dir string) (*Datapath, error) { return openDir(dir, false) }

func openDir(dir string, locked bool) (*Datapath, error) {
	root, err := OpenStateDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w below %s", ErrNotLoaded, dir)
	}
	if errors.Is(err, ErrNoBPFFS) {
		return nil, fmt.Errorf("%w below %s: %w", ErrNotLoaded, dir, err) // nor loaded later
	}
	if err != nil {
		return nil, err
	}
	d := open(current(root.Path()))
	d.dir, d.locked = root, locked
	if !exists(d.layout.state()) {
		err = notLoaded(d.layout.dir)
	} else {
		err = d.checkABI()
	}
	if err != nil {
		spellError(&err)
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// open returns a handle on the state of l, whether it exists yet or not.
func open(l layout) *Datapath {
	return &Datapath{layout: l, maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}}
}

func (d *Datapath) checkABI() error {
	cfg, err := d.config()
	if err != nil {
		return err
	}
	if cfg.Abi != ABI {
		return &StateError{Path: d.layout.pin(bpf.SockmapMapConfig), Found: fmt.Sprintf("ABI %d", cfg.Abi),
			Own: fmt.Sprintf("ABI %d", ABI)}
	}
	return nil
}

// notLoaded returns ErrNotLoaded for an empty state directory and a StateError for one that another version
// uses. State that is only draining belongs to no version.
func notLoaded(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read state directory: %w", err)
	}
	for _, e := range entries {
		abi, draining, ok := parseStateName(e.Name())
		if strings.HasPrefix(e.Name(), buildingPrefix) || ok && draining {
			continue
		}
		if err := checkOurs(dir, entries); err != nil {
			return err
		}
		wrong := &StateError{
			Path: filepath.Join(dir, e.Name()), Found: fmt.Sprintf("%q", e.Name()),
			Own: fmt.Sprintf("%q", stateName(ABI)),
		}
		if ok && abi > ABI {
			wrong.Found += " of a newer version"
		}
		if ok && abi < ABI {
			wrong.Found += " of an older version"
			wrong.Older = Conversions[abi] != nil
		}
		return wrong
	}
	if at, ok := UnloadedOnRequest(dir); ok {
		return fmt.Errorf("%w below %s: it was unloaded with sockmapctl unload at %s", ErrNotLoaded, dir,
			at.Format(time.RFC3339))
	}
	return fmt.Errorf("%w below %s", ErrNotLoaded, dir)
}

// Dir is the state directory that was opened.
func (d *Datapath) Dir() string { return spell(d.layout.dir) }

// Close releases all descriptors. Pins, links and sockets stay as they are. It may be called twice.
func (d *Datapath) Close() error {
	err := d.closeObjects()
	if d.dir != nil {
		// The number of its descriptor may be used for another directory.
		d.layout.dir = d.dir.Name()
		err = errors.Join(err, d.dir.Close())
		d.dir = nil
	}
	return err
}

// closeObjects closes maps and programs. They are opened again when they are needed.
func (d *Datapath) closeObjects() error {
	var errs []error
	for name, m := range d.maps {
		errs = append(errs, m.Close())
		delete(d.maps, name)
	}
	for name, p := range d.programs {
		errs = append(errs, p.Close())
		delete(d.programs, name)
	}
	d.seen, d.knownConfig = nil, nil
	return errors.Join(errs...)
}

// mapOf opens the pinned map `name`, whose values must have the size of the Go type that is read into it.
func (d *Datapath) mapOf(name string, valueSize uintptr) (m *ebpf.Map, err error) {
	defer spellError(&err)
	if m, ok := d.maps[name]; ok {
		return m, nil
	}
	path := d.layout.pin(name)
	m, err = ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.absent(path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w", path, err)
	}
	if uintptr(m.ValueSize()) != valueSize {
		found := fmt.Sprintf("a %s with values of %d bytes", m.Type(), m.ValueSize())
		m.Close()
		return nil, &StateError{Path: path, Found: found, Own: fmt.Sprintf("%d bytes", valueSize)}
	}
	d.maps[name] = m
	return m, nil
}

// absent distinguishes damaged state from state that was unloaded meanwhile.
func (d *Datapath) absent(pin string, cause error) error {
	if !exists(d.layout.state()) {
		return fmt.Errorf("%w: %w", notLoaded(d.layout.dir), cause)
	}
	return missing(pin, cause)
}

func (d *Datapath) program(name string) (p *ebpf.Program, err error) {
	defer spellError(&err)
	if p, ok := d.programs[name]; ok {
		return p, nil
	}
	p, err = ebpf.LoadPinnedProgram(d.layout.pin(name), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.absent(d.layout.pin(name), err)
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned program %s: %w", d.layout.pin(name), err)
	}
	d.programs[name] = p
	return p, nil
}
