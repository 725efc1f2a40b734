// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Unload stops and removes everything below dir. Live flows go to TCP and lose nothing: the kill switches are turned
// first, and sockets keep their verdict and with it the switch. The caller holds the lock on dir.
//
// Without force it refuses state of another version; with it, whatever stands there is removed.
func Unload(dir string, force bool) error {
	err := within(dir, func(dir string) error { return unloadIn(dir, force) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func unloadIn(dir string, force bool) error {
	d, err := Open(dir)
	switch {
	case err == nil:
		err = d.SetDisabled(true)
		err = errors.Join(err, d.Close())
	case errors.Is(err, ErrNotLoaded), force:
		err = nil
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read state directory: %w", err)
	}
	var errs []error
	for _, e := range entries {
		l := layout{dir, e.Name()}
		if abi, _, ok := parseStateName(l.name); ok && abi < ABI {
			if err := switchOld(l, abi, true); err != nil && !force {
				return err
			}
		}
		errs = append(errs, removeState(l))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	if err := removeStateDir(dir); err != nil {
		return fmt.Errorf("remove state directory: %w", err)
	}
	return nil
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
