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

// walk searches a hierarchy, level by level, as pods are never deep down.
type walk struct {
	tree     *tree
	match    func(name string) bool
	dirs     int // how many directories may be read
	deadline time.Time
}

// find returns the relative path of the first cgroup whose last part is one
// of names, or fs.ErrNotExist.
func (w walk) find() (string, error) {
	queue := []string{"."}
	for read := 0; len(queue) > 0; read++ {
		if read == w.dirs || time.Now().After(w.deadline) {
			return "", fmt.Errorf("%w among the first %d cgroups with children, where the search gave up", fs.ErrNotExist, read)
		}
		dir := queue[0]
		queue = queue[1:]
		for _, name := range w.children(dir) {
			rel := path.Join(dir, name)
			if w.match(name) {
				return rel, nil
			}
			// Below other pods are only their containers.
			if !isPod(name) && w.hasChildren(rel) {
				queue = append(queue, rel)
			}
		}
	}
	return "", fmt.Errorf("%w in the whole hierarchy", fs.ErrNotExist)
}

// children lists the cgroups in one; none if it has gone in the meantime.
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

// hasChildren goes by the link count, as ".." of each child is one link: it
// spares the reading of leaves, which are the bulk and full of files.
func (w walk) hasChildren(rel string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(w.tree.fd, rel, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Nlink > 2
}
