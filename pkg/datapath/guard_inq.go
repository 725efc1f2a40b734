// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// The guard of FIONREAD writes into the calling program's memory. So it is loaded only if a probe finds that
// the kernel's result is wrong.

// inqHazards are the hazards that it cures.
const inqHazards = uint32(bpf.SockmapAskedHazardHAZARD_FIONREAD_REDIRECTED |
	bpf.SockmapAskedHazardHAZARD_FIONREAD_TCP)

// inqProbes are the names of their probes.
var inqProbes = []string{"fionread-redirected", "fionread-tcp"}

// cureFionread loads the guard below dir if it is for one of hazards, and probes again. It returns the
// hazards that the guard cures. It is no error if the kernel refuses the guard, or if it is switched off.
func (o *loaded) cureFionread(
	dir string, hazards uint32, probe func(names ...string) (uint32, uint32, error),
) (cured uint32, err error) {
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

// isNeedless reports whether the guard is not loaded only because no probe found its hazard.
func isNeedless(dir string) bool {
	return readReason(filepath.Join(dir, guardsDir, GuardFionread)) == needless
}

// loadInqGuard loads the guard below dir, and reports whether it runs. If the kernel refuses it, the reason
// is pinned.
func loadInqGuard(from source, dir string) (runs bool, err error) {
	pin := filepath.Join(dir, guardsDir, GuardFionread)
	if err := removeUnfinishedGuard(pin); err != nil {
		return false, err
	}
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

// removeUnfinishedGuard removes what a killed call has pinned of a guard that counts as not loaded.
func removeUnfinishedGuard(pin string) error {
	names, err := pinNames(filepath.Dir(pin))
	for name := range names {
		path := filepath.Join(filepath.Dir(pin), name)
		if strings.HasPrefix(path, pin+"-") && path != pin+reasonSuffix {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// cureAsKnown loads the guard below dir if probes of the same programs have found that it cures something. It
// returns which of guarded is cured then.
func (o *loaded) cureAsKnown(dir string, guarded uint32) (uint32, error) {
	return holds(dir, guarded, func() (bool, error) {
		from, err := newSource(o.maps(), o.types)
		if err != nil {
			return false, err
		}
		return loadInqGuard(from, dir)
	})
}

// addInqGuard is cureAsKnown for the state in force.
func (d *Datapath) addInqGuard(guarded uint32) (uint32, error) {
	dir := d.layout.state()
	return holds(dir, guarded, func() (bool, error) {
		spec, err := bpf.LoadGuard()
		if err != nil {
			return false, fmt.Errorf("read embedded guards: %w", err)
		}
		pinned, err := d.pinnedMaps(spec)
		if err != nil {
			return false, err
		}
		defer closeMaps(pinned)
		from, err := sourceOf(spec, pinned, newTypes())
		if err != nil {
			return false, err
		}
		return loadInqGuard(from, dir)
	})
}

// holds returns which of guarded is cured. It calls load if the guard is wanted and not there.
func holds(dir string, guarded uint32, load func() (runs bool, err error)) (uint32, error) {
	if guarded&inqHazards == 0 || !isNeedless(dir) {
		return guarded, nil
	}
	runs, err := load()
	if err != nil {
		return 0, err
	}
	if !runs {
		guarded &^= inqHazards
	}
	return guarded, nil
}
