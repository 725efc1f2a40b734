// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// Unload stops and removes everything below dir. Live flows fall back to TCP and lose nothing: the kill
// switches are turned on first, and sockets keep their verdict and with it the switch. The caller holds the
// lock on dir.
//
// Without force it refuses state of another version, and damaged state. With force, it searches for the kill
// switch of state of any version, turns it on, and removes the state. It removes nothing if nothing is
// sockmap's (a *StateError), or if a switch cannot be turned on (ErrStillRedirected). It does not look for
// flows without pins: see FindStrays.
func Unload(dir string, force bool) error {
	_, err := Removal{Force: force}.Do(dir)
	return err
}

// UnloadOnRequest is Unload by a person: until the next load the directory keeps marks of that, see
// UnloadedOnRequest and StaysDisabled. It reports whether anything was loaded.
func UnloadOnRequest(dir string, force bool) (unloaded bool, err error) {
	return Removal{Force: force, OnRequest: true}.Do(dir)
}

// Removal is an Unload with options.
type Removal struct {
	Force     bool
	OnRequest bool // see UnloadOnRequest
	// Step is called before each change; its error ends the unload there. The next unload continues, and also
	// finds out whether a person had disabled. nil: no calls.
	Step func(name string) error
}

func (r Removal) step(name string) error {
	if r.Step == nil {
		return nil
	}
	return r.Step(name)
}

// Do unloads, and reports whether anything was loaded.
func (r Removal) Do(dir string) (unloaded bool, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	err = within(dir, func(dir string) (err error) {
		unloaded, err = r.unload(dir)
		return err
	})
	return unloaded, err
}

func (r Removal) unload(dir string) (unloaded bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("read state directory: %w", err)
	}
	if err := checkOurs(dir, entries); err != nil {
		return false, err
	}
	stood, err := r.switchOff(dir, entries)
	if err != nil {
		return false, err
	}
	if r.OnRequest {
		if err := r.mark(dir, stood); err != nil {
			return false, err
		}
	}
	unloaded, err = r.removeStates(dir, entries)
	if err != nil || r.OnRequest {
		return unloaded, err
	}
	// Files that are not sockmap's stay, and so does the directory.
	if err := removeStateDir(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return unloaded, fmt.Errorf("remove state directory: %w", err)
	}
	return unloaded, nil
}

func (r Removal) removeStates(dir string, entries []os.DirEntry) (unloaded bool, err error) {
	var errs []error
	for _, e := range entries {
		if !isOurs(e.Name()) || isMark(e.Name()) && r.OnRequest {
			continue
		}
		if err := r.step("remove " + e.Name()); err != nil {
			return unloaded, err
		}
		unloaded = unloaded || !isMark(e.Name())
		errs = append(errs, removeState(layout{dir, e.Name()}))
	}
	if err := errors.Join(errs...); err != nil {
		return unloaded, fmt.Errorf("remove pins: %w", err)
	}
	return unloaded, nil
}

// mark notes what a person has decided. If no state was in force, an earlier unload has noted it.
func (r Removal) mark(dir string, stood stand) error {
	if err := r.step("mark unloaded"); err != nil {
		return err
	}
	if err := setMark(dir, markUnloaded); err != nil {
		return err
	}
	if !stood.inForce {
		return nil
	}
	if err := r.step("mark disabled"); err != nil {
		return err
	}
	if stood.disabled {
		return setMark(dir, markDisabled)
	}
	return removeMark(dir, markDisabled)
}

// stand is the position of a kill switch before it was turned on.
type stand struct {
	inForce  bool // there is state that new connections use
	disabled bool // a person had disabled it
}

// checkOurs refuses a directory of others: a mistyped path must not remove another product's pins.
func checkOurs(dir string, entries []os.DirEntry) error {
	for _, e := range entries {
		if isOurs(e.Name()) {
			return nil
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return notOurs(dir, entries[0].Name())
}

func isOurs(name string) bool {
	_, _, ok := parseStateName(name)
	return ok || strings.HasPrefix(name, buildingPrefix)
}

// switchOff turns on the kill switches of everything below dir, before anything is removed.
func (r Removal) switchOff(dir string, entries []os.DirEntry) (stood stand, err error) {
	d, err := Open(dir)
	opened := err == nil
	if opened {
		stood.inForce = true
		stood.disabled, err = d.switchOffToUnload(r.step)
		err = errors.Join(err, d.Close())
	}
	if err != nil && !errors.Is(err, ErrNotLoaded) && !r.Force {
		return stand{}, err
	}
	var errs []error
	for _, e := range entries {
		_, draining, ok := parseStateName(e.Name())
		if !e.IsDir() || !isOurs(e.Name()) {
			continue
		}
		l := layout{dir, e.Name()}
		inForce := ok && !draining
		disabled, found, err := r.switchOffState(l, inForce)
		errs = append(errs, err)
		if !opened && inForce {
			stood = stand{true, stood.disabled || disabled}
		}
		if ok && !found && !r.Force && err == nil {
			errs = append(errs, missing(l.pin(bpf.SockmapMapConfig), nil))
		}
	}
	return stood, errors.Join(errs...)
}

// switchOffState does this for one state of any version. found is false if nothing leads to a switch.
func (r Removal) switchOffState(l layout, inForce bool) (disabled, found bool, err error) {
	all, err := findSwitches(l, r.Force)
	defer all.close()
	if err != nil {
		return false, false, fmt.Errorf("look for the kill switch of %s: %w", l.state(), err)
	}
	if inForce && len(all) > 0 && !all.off() {
		if err := r.step("mark unloading " + l.name); err != nil {
			return false, len(all) > 0, err
		}
		if err := markUnloading(l); err != nil {
			return false, len(all) > 0, err
		}
	}
	if err := r.step("switch off " + l.name); err != nil {
		return false, len(all) > 0, err
	}
	off, err := all.turn()
	return off && !isUnloading(l), len(all) > 0, err
}

// removeState renames first, so that removeUnfinished completes a removal that is killed half-way.
func removeState(l layout) error {
	doomed := l
	if !strings.HasPrefix(l.name, buildingPrefix) {
		doomed = l.building(os.Getpid())
		if err := os.Rename(l.state(), doomed.state()); err != nil {
			return err
		}
	}
	return os.RemoveAll(doomed.state())
}

// RemoveUnfinished removes what killed calls left unfinished. The caller holds the lock on dir.
func RemoveUnfinished(dir string) error { return within(dir, removeUnfinished) }

// removeUnfinished does this. As the caller holds the lock, no other call is at work there.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read state directory: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if unfinished(e.Name()) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
