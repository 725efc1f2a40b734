// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// The guard of FIONREAD writes into memory of the program that asks, so it is loaded only where a probe has found that the
// kernel's answer is wrong.

// inqHazards are what it cures.
const inqHazards = uint32(bpfAskedHazardHAZARD_FIONREAD_REDIRECTED | bpfAskedHazardHAZARD_FIONREAD_TCP)

// inqProbes are the names of the probes that find them.
var inqProbes = []string{"fionread-redirected", "fionread-tcp"}

// cureFionread loads the guard below dir where hazards, which probe has found, are for it, and lets probe look again. It
// returns those that the guard cures. A guard that the kernel refuses, or that is switched off, is no error.
func (o *loaded) cureFionread(dir string, hazards uint32, probe func(names ...string) (uint32, uint32, error)) (cured uint32, err error) {
	if hazards&inqHazards == 0 || !isNeedless(dir) {
		return 0, nil
	}
	from, err := newSource(o.maps(), o.types)
	if err != nil {
		return 0, err
	}
	runs, err := loadInqGuard(from, dir)
	if err != nil || !runs {
		return 0, err
	}
	left, _, err := probe(inqProbes...)
	if err != nil {
		return 0, err
	}
	return hazards & inqHazards &^ left, nil
}

// isNeedless tells whether the guard is not loaded for this reason alone.
func isNeedless(dir string) bool {
	return readReason(filepath.Join(dir, guardsDir, GuardFionread)) == needless
}

// loadInqGuard loads the guard below dir, and reports whether it runs. Where the kernel refuses it, the reason is recorded.
func loadInqGuard(from source, dir string) (runs bool, err error) {
	pin := filepath.Join(dir, guardsDir, GuardFionread)
	refused, err := from.attachFirst(tracingGuards()[GuardFionread], pin)
	if err != nil {
		return false, err
	}
	if err := os.Remove(pin + reasonSuffix); err != nil {
		return false, fmt.Errorf("remove why a guard does not run: %w", err)
	}
	if refused != nil {
		return false, pinReason(pin, refused)
	}
	return true, nil
}

// cureAsKnown loads the guard below dir where probes of the same programs have found that it cures something. It returns
// what of guarded holds then.
func (o *loaded) cureAsKnown(dir string, guarded uint32) (uint32, error) {
	if guarded&inqHazards == 0 || !isNeedless(dir) {
		return guarded, nil
	}
	from, err := newSource(o.maps(), o.types)
	if err != nil {
		return 0, err
	}
	return heldBy(from, dir, guarded)
}

func heldBy(from source, dir string, guarded uint32) (uint32, error) {
	runs, err := loadInqGuard(from, dir)
	if err == nil && !runs {
		guarded &^= inqHazards
	}
	return guarded, err
}

// addInqGuard is cureAsKnown for what is in force.
func (d *Datapath) addInqGuard(guarded uint32) (uint32, error) {
	if guarded&inqHazards == 0 || !isNeedless(d.layout.state()) {
		return guarded, nil
	}
	spec, err := loadGuard()
	if err != nil {
		return 0, fmt.Errorf("read embedded guards: %w", err)
	}
	pinned, err := d.pinnedMaps(spec)
	if err != nil {
		return 0, err
	}
	defer closeMaps(pinned)
	from, err := newSource(pinned, newTypes())
	if err != nil {
		return 0, err
	}
	return heldBy(from, d.layout.state(), guarded)
}

func closeMaps(maps map[string]*ebpf.Map) error {
	var errs []error
	for _, m := range maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
