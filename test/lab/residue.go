// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Residue lists everything on this machine that belongs to nodes whose name begins with name ("" for all):
// mounts (of network namespaces and bpffs), directories, cgroups. It does not list veths, bridges and routes,
// because they are in the network namespaces and disappear with the last mount, socket or process there.
func Residue(name string) ([]string, error) {
	var found []string
	mounts, err := mountsOf(name)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		found = append(found, m.fstype+" mount "+m.point)
	}
	cgroups, dirs, err := dirsOf(name)
	if err != nil {
		return nil, err
	}
	for _, dir := range cgroups {
		found = append(found, "cgroup "+dir)
	}
	for _, dir := range dirs {
		found = append(found, "directory "+dir)
	}
	return found, nil
}

func mountsOf(name string) ([]mountEntry, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	below := filepath.Join(runDir, Prefix+name)
	return slices.DeleteFunc(mounts, func(m mountEntry) bool { return !strings.HasPrefix(m.point, below) }), nil
}

func dirsOf(name string) (cgroups, dirs []string, err error) {
	mount, err := cgroup2Mount()
	if err != nil {
		return nil, nil, err
	}
	// The pattern cannot be malformed: names have no special characters.
	cgroups, _ = filepath.Glob(filepath.Join(mount, Prefix+name+"*"))
	dirs, _ = filepath.Glob(filepath.Join(runDir, Prefix+name+"*"))
	return cgroups, dirs, nil
}

// Reap removes everything that Residue lists, except nodes that this or another process uses.
func Reap(name string) error {
	cgroups, dirs, err := dirsOf(name)
	if err != nil {
		return err
	}
	var errs []error
	inUse := map[string]bool{}
	for _, dir := range dirs {
		lock, err := lockNode(dir)
		if err == nil {
			defer lock.Close()
			continue
		}
		inUse[filepath.Base(dir)] = true // or being closed at this moment
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, dir := range cgroups {
		if !inUse[filepath.Base(dir)] {
			errs = append(errs, removeCgroup(dir))
		}
	}
	for _, dir := range dirs {
		if !inUse[filepath.Base(dir)] {
			errs = append(errs, removeMounts(dir), os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

func removeMounts(dir string) error {
	mounts, err := mountsOf(strings.TrimPrefix(filepath.Base(dir), Prefix))
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		err = errors.Join(err, unmount(m.point))
	}
	return err
}
