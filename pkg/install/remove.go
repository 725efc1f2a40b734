// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// os.Remove removes files and empty directories alike. If a path is of the other kind than expected, it
// belongs to somebody else. So unlink removes files only, and rmdir empty directories only.

func unlink(path string) error {
	if err := unix.Unlink(path); err != nil {
		return &fs.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}

// rmdir removes a directory of drop-ins, unless it contains files of others.
func rmdir(path string) error {
	err := unix.Rmdir(path)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST),
		errors.Is(err, unix.ENOTDIR):
		return nil
	}
	return &fs.PathError{Op: "rmdir", Path: path, Err: err}
}

// inWorkName is a symbolic link to the directory in which a drop-in is being made or removed. A killed call
// may leave that directory empty. The link marks the directory, so that the next call may remove it; other
// empty directories belong to somebody else.
const inWorkName = tempPrefix + "drop-in" + tempSuffix

// markDirInWork records that dir, a directory in ConfDir, may be left empty. done removes the record, and
// also dir if it is empty and remove is true. The caller holds the lock of ConfDir.
func (i *Installer) markDirInWork(dir string) (done func(remove bool) error, err error) {
	link := filepath.Join(i.ConfDir, inWorkName)
	if err := os.Symlink(filepath.Base(dir), link); err != nil {
		return nil, err
	}
	return func(remove bool) error {
		var err error
		if remove {
			err = rmdir(dir)
		}
		return errors.Join(err, unlink(link))
	}, nil
}

// removeTemp removes a temporary file of a killed call, and the empty directory that it names.
func removeTemp(path string) error {
	if filepath.Base(path) == inWorkName {
		if name, err := os.Readlink(path); err == nil && filepath.Base(name) == name {
			if err := rmdir(filepath.Join(filepath.Dir(path), name)); err != nil {
				return err
			}
		}
	}
	return unlink(path)
}
