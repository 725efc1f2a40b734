// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// tree is a mounted cgroup2 hierarchy during one search.
type tree struct {
	mount  Mount
	fd     int
	rootID uint64
	// own are the IDs of the cgroups of this process, without the root. They are read when the first
	// candidate exists.
	own      []uint64
	ownKnown bool
	notes    []string // about the search as a whole
}

// candidate is a cgroup that may be used.
type candidate struct {
	path string
	id   uint64
}

func openTree(m Mount) (*tree, error) {
	fd, err := unix.Open(m.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup2 mount %q: %w", m.Path, err)
	}
	id, err := check(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open cgroup2 mount %q: %w", m.Path, err)
	}
	return &tree{mount: m, fd: fd, rootID: id}, nil
}

func (t *tree) close() { unix.Close(t.fd) }

// firstUsable returns the first of the relative paths that is a usable cgroup.
func (t *tree) firstUsable(rels []string) (candidate, error) {
	var refused, missing error
	for _, rel := range rels {
		p, err := t.use(rel)
		switch {
		case err == nil:
			return p, nil
		case !errors.Is(err, unix.ENOENT):
			refused = cmp.Or(refused, err)
		case missing == nil: // the first path is what was asked for; the others are guesses
			missing = err
		}
	}
	if refused != nil {
		return candidate{}, refused
	}
	return candidate{}, missing
}

// use returns the cgroup at the relative path rel, or an error if it must not be used.
func (t *tree) use(rel string) (candidate, error) {
	path := filepath.Join(t.mount.Path, rel)
	id, err := t.cgroupID(rel)
	if err != nil {
		return candidate{}, fmt.Errorf("no usable cgroup %q: %w", path, err)
	}
	if id == t.rootID {
		return candidate{}, fmt.Errorf("%q %w", path, ErrRoot)
	}
	if t.isOwnOrAncestor(id) {
		return candidate{}, fmt.Errorf("cgroup %q %w", path, ErrOwn)
	}
	return candidate{path, id}, nil
}

// cgroupID returns the ID of the cgroup at the relative path rel.
func (t *tree) cgroupID(rel string) (uint64, error) {
	// The path comes from outside. The kernel makes sure that it ends on this file system, whatever "..",
	// links or mounts it contains.
	fd, err := unix.Openat2(t.fd, rel, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	switch {
	case errors.Is(err, unix.EXDEV):
		return 0, fmt.Errorf("leads out of the cgroup2 mount: %w", err)
	case err != nil:
		return 0, err
	}
	defer unix.Close(fd)
	return inode(fd)
}

// isOwnOrAncestor reports whether this process is in the cgroup with this ID, or below it.
func (t *tree) isOwnOrAncestor(id uint64) bool {
	if !t.ownKnown {
		t.ownKnown = true
		var err error
		if t.own, err = t.ownIDs(); err != nil {
			// The candidate is not refused: the programs of containers ignore sockets of the host's network
			// namespace anyway.
			t.notes = append(t.notes, fmt.Sprintf("own cgroup not compared: %v", err))
		}
	}
	return slices.Contains(t.own, id)
}

// ownIDs returns the IDs of this process's cgroup and of all its parents.
func (t *tree) ownIDs() ([]uint64, error) {
	name, err := unifiedName("self")
	if err != nil {
		return nil, err
	}
	// A runtime without a cgroup of its own is in the root only. Then the list of mounts, which is long on a
	// node with many containers, need not be read.
	if name == "/" && inInitialNamespace() {
		return nil, nil
	}
	rel, ok, err := t.locate(name)
	if err != nil || !ok {
		return nil, err
	}
	var ids []uint64
	for ; rel != "."; rel = filepath.Dir(rel) {
		id, err := t.cgroupID(rel)
		if err != nil {
			return nil, fmt.Errorf("look up %q: %w", rel, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// inInitialNamespace reports whether "/" in /proc/PID/cgroup is the root of the hierarchy.
func inInitialNamespace() bool {
	const initial = 0xEFFFFFFB // CGROUP_NS_INIT_INO of linux/nsfs.h
	var st unix.Stat_t
	return unix.Stat("/proc/thread-self/ns/cgroup", &st) == nil && st.Ino == initial
}

// locate is Mount.inside, but usually does not read the list of mounts.
func (t *tree) locate(name string) (rel string, ok bool, err error) {
	// The root of the mount nearly always is the root of the names in /proc/PID/cgroup, so a cgroup that
	// exists under this name is the right one. Only "/" exists in every mount and proves nothing.
	if rel, ok := below("/", name); ok && rel != "." {
		if _, err := t.cgroupID(rel); err == nil {
			return rel, true, nil
		}
	}
	return t.mount.inside(name)
}
