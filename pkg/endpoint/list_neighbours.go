// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Neighbour is a foreign sock_ops program that is attached where links are, or where containers may be
// created.
type Neighbour struct {
	datapath.Neighbour
	CgroupPath string // where it is attached; empty: not visible from here
	Links      int    // number of our links for whose sockets it runs
}

// Neighbours lists foreign sock_ops programs that run for sockets of linked cgroups, or of the cgroups below
// which containers are created: the root and those of the kubelet. It leaves out cgroups that do not exist.
// It takes no lock and needs no loaded state. It returns fs.ErrPermission if this process may not query
// programs.
func (n *Node) Neighbours() ([]Neighbour, error) {
	mount, err := n.findMount()
	if errors.Is(err, cgroup.ErrNoCgroup2) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := neighbours{}
	for _, path := range usualPlaces(mount.Path) {
		if err := found.add(n.Dir, path, 0); err != nil {
			return nil, err
		}
	}
	linked, err := linkedPaths(n.Dir, mount)
	if err != nil {
		return nil, err
	}
	for _, path := range linked {
		if err := found.add(n.Dir, path, 1); err != nil {
			return nil, err
		}
	}
	return found.sorted(mount), nil
}

// usualPlaces are the root and the cgroups that the kubelet creates below it, with either cgroup driver.
func usualPlaces(root string) []string {
	places := []string{root}
	for _, pattern := range []string{"kubepods*", "kubepods*/kubepods-*.slice", "kubepods/burstable",
		"kubepods/besteffort"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are valid
		places = append(places, found...)
	}
	return slices.DeleteFunc(places, func(path string) bool {
		st, err := os.Stat(path)
		return err != nil || !st.IsDir()
	})
}

func linkedPaths(dir string, mount cgroup.Mount) ([]string, error) {
	d, err := datapath.Open(dir)
	if errors.Is(err, datapath.ErrNotLoaded) || errors.Is(err, datapath.ErrForeignState) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	keys, err := d.LinkKeys()
	var paths []string
	for _, key := range keys {
		if path, err := cgroup.PathOf(mount, key.CgroupID); err == nil {
			paths = append(paths, path)
		}
	}
	return paths, err
}

type neighbours map[neighbourKey]*Neighbour

type neighbourKey struct {
	program uint32
	cgroup  uint64
}

func (h neighbours) add(dir, path string, links int) error {
	f, _, err := cgroup.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := datapath.NeighboursOf(dir, f)
	for _, n := range found {
		key := neighbourKey{n.ID, n.CgroupID}
		if h[key] == nil {
			h[key] = &Neighbour{Neighbour: n}
		}
		h[key].Links += links
		h[key].After = h[key].After || n.After
		h[key].Last = h[key].Last || n.Last
	}
	return err
}

func (h neighbours) sorted(mount cgroup.Mount) []Neighbour {
	all := make([]Neighbour, 0, len(h))
	for _, n := range h {
		if path, err := cgroup.PathOf(mount, n.CgroupID); err == nil {
			n.CgroupPath = path
		}
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b Neighbour) int {
		return cmp.Or(cmp.Compare(a.CgroupPath, b.CgroupPath), cmp.Compare(a.ID, b.ID))
	})
	return all
}
