// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// walk searches a hierarchy level by level, because pods are never deep.
type walk struct {
	tree     *tree
	match    func(name string) bool
	dirs     int // bound of directories to read
	deadline time.Time
}

// find returns the relative path of the first cgroup for whose name match returns true, or fs.ErrNotExist.
func (w walk) find() (string, error) {
	queue := []string{"."}
	for read := 0; len(queue) > 0; read++ {
		if read == w.dirs || time.Now().After(w.deadline) {
			return "", fmt.Errorf("%w among the first %d cgroups with children, where the search gave up",
				fs.ErrNotExist, read)
		}
		dir := queue[0]
		queue = queue[1:]
		for _, name := range w.children(dir) {
			rel := path.Join(dir, name)
			if w.match(name) {
				return rel, nil
			}
			// Below another pod there are only its containers.
			if !isPod(name) && w.hasChildren(rel) {
				queue = append(queue, rel)
			}
		}
	}
	return "", fmt.Errorf("%w in the whole hierarchy", fs.ErrNotExist)
}

// children lists the children of a cgroup; none if it was removed meanwhile.
func (w walk) children(dir string) []string {
	f, err := os.Open(path.Join(w.tree.mount.Path, dir))
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, _ := f.ReadDir(-1) // unsorted, and without a stat for each
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// hasChildren uses the link count, because ".." of each child is one link. So leaves, which are the majority
// and contain many files, need not be read.
func (w walk) hasChildren(rel string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(w.tree.fd, rel, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Nlink > 2
}
