// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Unload stops and removes everything below dir. Live flows go to TCP and lose nothing: the kill switches are turned
// first, and sockets keep their verdict and with it the switch. The caller holds the lock on dir.
//
// Without force it refuses state of another version, and damaged state; with it, state of any version is switched off by
// whatever still leads to its switch, and removed. It removes nothing where nothing is sockmap's (a *StateError), and
// nothing where a switch cannot be turned (ErrStillRedirected). What no pin leads to is not its business: see Strays.
func Unload(dir string, force bool) error {
	_, err := unload(dir, force, false)
	return err
}

// UnloadByHand is Unload for a person who means it: until the next load the directory keeps marks that say so, see
// UnloadedByHand and StaysDisabled. It reports whether anything was loaded.
func UnloadByHand(dir string, force bool) (unloaded bool, err error) {
	return unload(dir, force, true)
}

func unload(dir string, force, byHand bool) (unloaded bool, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	err = within(dir, func(dir string) (err error) {
		unloaded, err = unloadIn(dir, force, byHand)
		return err
	})
	return unloaded, err
}

func unloadIn(dir string, force, byHand bool) (unloaded bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("read state directory: %w", err)
	}
	if err := checkOurs(dir, entries); err != nil {
		return false, err
	}
	off, err := switchOff(dir, entries, force)
	if err != nil {
		return false, err
	}
	if byHand {
		if err := errors.Join(setMark(dir, markUnloaded), keepDisabled(dir, off)); err != nil {
			return false, err
		}
	}
	var errs []error
	for _, e := range entries {
		if !isOurs(e.Name()) || isMark(e.Name()) && byHand {
			continue
		}
		unloaded = unloaded || !isMark(e.Name())
		errs = append(errs, removeState(layout{dir, e.Name()}))
	}
	if err := errors.Join(errs...); err != nil {
		return unloaded, fmt.Errorf("remove pins: %w", err)
	}
	if byHand {
		return unloaded, nil
	}
	// What is not sockmap's stays, and the directory with it.
	if err := removeStateDir(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return unloaded, fmt.Errorf("remove state directory: %w", err)
	}
	return unloaded, nil
}

func keepDisabled(dir string, off bool) error {
	if !off {
		return nil
	}
	return setMark(dir, markDisabled)
}

// checkOurs refuses a directory of somebody else: a mistyped path must not cost another product its pins.
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

// switchOff turns the kill switch of everything below dir, before anything is removed. off tells whether the state in force
// was off already.
func switchOff(dir string, entries []os.DirEntry, force bool) (off bool, err error) {
	d, err := Open(dir)
	opened := err == nil
	if opened {
		off, err = d.switchOff()
		err = errors.Join(err, d.Close())
	}
	if err != nil && !errors.Is(err, ErrNotLoaded) && !force {
		return false, err
	}
	var errs []error
	for _, e := range entries {
		_, draining, ok := parseStateName(e.Name())
		if !e.IsDir() || !isOurs(e.Name()) {
			continue
		}
		l := layout{dir, e.Name()}
		was, found, err := switchOffState(l, force)
		errs = append(errs, err)
		if !opened && ok && !draining {
			off = off || was
		}
		if ok && !found && !force && err == nil {
			errs = append(errs, missing(l.pin(bpfMapConfig), nil))
		}
	}
	return off, errors.Join(errs...)
}

func (d *Datapath) switchOff() (was bool, err error) {
	cfg, err := d.config()
	if err != nil {
		return false, err
	}
	return cfg.Disabled != 0, d.SetDisabled(true)
}

// switchOffState does it for one state, whatever version made it. found is false where nothing leads to a switch.
func switchOffState(l layout, deep bool) (was, found bool, err error) {
	all, err := findSwitches(l, deep)
	defer all.close()
	if err != nil {
		return false, false, fmt.Errorf("look for the kill switch of %s: %w", l.state(), err)
	}
	was, err = all.turn()
	return was, len(all) > 0, err
}

// removeState renames first: a removal that is killed half-way is then finished by removeUnfinished.
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

// removeUnfinished removes what killed calls left. The caller's lock says that nobody is at work there.
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
