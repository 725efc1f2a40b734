// SPDX-License-Identifier: Apache-2.0

// Package cgroup finds the cgroup of a container in the unified hierarchy (cgroup2), from what a container
// runtime passes to a CNI plugin.
//
// A cgroup is identified by its ID, not by its path: the kubelet removes the cgroup of a static pod and
// creates it again at the same path, without the programs that were attached to it. IDs are never reused
// while the kernel runs. On 64-bit kernels the ID is the inode number of the cgroup's directory.
package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoCgroup2: no cgroup2 file system is mounted.
	ErrNoCgroup2 = errors.New("no cgroup2 file system is mounted")
	// ErrNotCgroup2: the path is on a file system of another type.
	ErrNotCgroup2 = errors.New("not on a cgroup2 file system")
	// ErrRoot: the path would select every process of the node.
	ErrRoot = errors.New("is the cgroup2 root")
	// ErrOwn: the calling process is in the cgroup or below it, so it is the cgroup of the runtime and not of
	// the container.
	ErrOwn = errors.New("holds this process itself, so it is not a container's")
	// ErrInitialNamespace: this process is not in a container.
	ErrInitialNamespace = errors.New("in the initial cgroup namespace")
)

// kernfsHandle is FILEID_KERNFS of linux/exportfs.h: a handle that is a kernfs ID, which for a directory of
// cgroup2 is the cgroup ID.
const kernfsHandle = 0xfe

// Open opens the cgroup at path for attaching programs to it, and returns its ID. The caller closes the file.
// A missing cgroup is fs.ErrNotExist.
func Open(path string) (*os.File, uint64, error) {
	// Not O_PATH, which BPF_LINK_CREATE refuses.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w (run as root, or with CAP_DAC_OVERRIDE)", err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open cgroup %q: %w", path, err)
	}
	id, err := check(fd)
	if err != nil {
		unix.Close(fd)
		return nil, 0, fmt.Errorf("open cgroup %q: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), id, nil
}

// Exists reports whether the cgroup with this ID exists. After an error that is not known, so the caller must
// not clean up after the cgroup. It needs CAP_DAC_READ_SEARCH in the initial user namespace.
func Exists(m Mount, id uint64) (bool, error) {
	fd, err := openID(m, id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for cgroup %d: %w", id, err)
	}
	unix.Close(fd)
	return true, nil
}

// PathOf returns the current path of the cgroup with this ID, for display. It returns fs.ErrNotExist if the
// cgroup is gone. It needs the same capability as Exists.
func PathOf(m Mount, id uint64) (string, error) {
	fd, err := openID(m, id)
	if err != nil {
		return "", fmt.Errorf("find path of cgroup %d: %w", id, err)
	}
	defer unix.Close(fd)
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "", fmt.Errorf("find path of cgroup %d: %w", id, err)
	}
	return path, nil
}

// openID opens the cgroup with this ID with O_PATH.
func openID(m Mount, id uint64) (int, error) {
	root, err := unix.Open(m.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		// Not wrapped, so that errors.Is does not match: a missing mount says nothing about the cgroup.
		return -1, fmt.Errorf("open cgroup2 mount %q: %s", m.Path, err)
	}
	defer unix.Close(root)
	// Any other file system returns ESTALE for the handle, as if the cgroup were gone.
	if _, err := check(root); err != nil {
		return -1, fmt.Errorf("open cgroup2 mount %q: %w", m.Path, err)
	}
	var handle [8]byte
	binary.NativeEndian.PutUint64(handle[:], id)
	fd, err := unix.OpenByHandleAt(root, unix.NewFileHandle(kernfsHandle, handle[:]),
		unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	switch {
	case err == nil:
		return fd, nil
	// ENOTDIR: files in cgroups have IDs of the same kind.
	case errors.Is(err, unix.ESTALE), errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return -1, fs.ErrNotExist
	case errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("open by handle: %w (run as root, with CAP_DAC_READ_SEARCH)", err)
	}
	return -1, fmt.Errorf("open by handle: %w", err)
}

// check returns the cgroup ID of an open directory.
func check(fd int) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, fmt.Errorf("statfs: %w", err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, ErrNotCgroup2
	}
	return inode(fd)
}

func inode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("stat: %w", err)
	}
	return st.Ino, nil
}
