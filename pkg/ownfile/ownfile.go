// SPDX-License-Identifier: Apache-2.0

// Package ownfile opens files for writing at paths that others may have prepared: root must not write into a
// file that somebody else put there, or to which their symbolic link leads.
package ownfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Demand is what an existing file must satisfy, in addition to being no symbolic link and belonging to root
// or the caller.
type Demand struct {
	Forbidden fs.FileMode // permission bits that it must not have; devices may have any
	Regular   bool        // neither a device nor a FIFO
}

// Open opens path for writing, or creates it with mode 0600. flags are further flags of open(2), such as
// O_APPEND. With O_TRUNC a file is truncated only after it was found to satisfy d. Opening and writing do not
// block: a FIFO without a reader is ENXIO. The caller closes the file.
func Open(path string, flags int, d Demand) (*os.File, error) {
	truncate := flags&unix.O_TRUNC != 0
	flags = flags&^unix.O_TRUNC | unix.O_CREAT | unix.O_NOFOLLOW |
		unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		flags |= unix.O_WRONLY
	}
	fd, err := unix.Open(path, flags, 0o600)
	if err != nil {
		return nil, explain(path, err)
	}
	if err := d.check(path, fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	if truncate {
		if err := f.Truncate(0); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not a regular file
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func explain(path string, err error) error {
	failed := &fs.PathError{Op: "open", Path: path, Err: err}
	switch {
	case errors.Is(err, unix.ELOOP):
		return fmt.Errorf("%w: it is a symbolic link, and its owner could choose another file (name the file "+
			"itself)", failed)
	case errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: nobody reads this FIFO (start its reader first)", failed)
	}
	return failed
}

func (d Demand) check(path string, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	kind, mode := st.Mode&unix.S_IFMT, fs.FileMode(st.Mode)&fs.ModePerm
	const wayOut = "(remove it, or name another file)"
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s: the file belongs to uid %d, who could read or change what is written %s", path,
			st.Uid, wayOut)
	case kind == unix.S_IFCHR && !d.Regular:
		return nil
	case kind != unix.S_IFREG && (d.Regular || kind != unix.S_IFIFO):
		return fmt.Errorf("%s: not a file that can be written to %s", path, wayOut)
	case mode&d.Forbidden != 0:
		return fmt.Errorf("%s: the file's mode is %04o, so others could read or change what is written (chmod "+
			"%04o it, or name another file)", path, mode, mode&^d.Forbidden)
	case st.Nlink > 1:
		return fmt.Errorf("%s: the file has %d names, one of which somebody else may have chosen %s", path,
			st.Nlink, wayOut)
	}
	return nil
}
