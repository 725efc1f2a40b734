// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// AttachCgroup links a cgroup that the user has chosen. Sockets of every network namespace are accelerated
// there, not only those of endpoints. It loads the programs if nothing is loaded. The path is a path in the
// file system, or below the cgroup2 mount.
//
// It returns a HazardError if severe hazards are not among the accepted ones, and a datapath.NeighbourError
// if the cgroup has to be left to a foreign program.
func (n *Node) AttachCgroup(ctx context.Context, path string,
	accepted ...string) (id uint64, made bool, err error) {
	dir, id, err := n.openCgroup(path)
	if err != nil {
		return 0, false, err
	}
	defer dir.Close()
	s, err := n.beginOrLoad(ctx)
	if err != nil {
		return 0, false, err
	}
	defer s.end()
	if err := s.checkHazards(accepted); err != nil {
		return 0, false, err
	}
	if err := s.step("link"); err != nil {
		return 0, false, err
	}
	made, err = s.attach(dir, datapath.LinkKey{CgroupID: id, Manual: true})
	return id, made, err
}

// DetachCgroup removes a link that AttachCgroup made. It reports whether there was one.
func (n *Node) DetachCgroup(ctx context.Context, id uint64) (removed bool, err error) {
	s, err := n.beginLoaded(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer s.end()
	key := datapath.LinkKey{CgroupID: id, Manual: true}
	keys, err := s.d.LinkKeys()
	if err != nil || !slices.Contains(keys, key) {
		return false, err
	}
	if err := s.step("release link"); err != nil {
		return false, err
	}
	return true, s.d.Detach(key)
}

// CgroupID returns the ID of the cgroup at path, a path in the file system or below the cgroup2 mount.
func (n *Node) CgroupID(path string) (uint64, error) {
	dir, id, err := n.openCgroup(path)
	if err != nil {
		return 0, err
	}
	return id, dir.Close()
}

func (n *Node) openCgroup(path string) (*os.File, uint64, error) {
	dir, id, err := cgroup.Open(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return dir, id, err
	}
	mount, mountErr := n.findMount()
	if mountErr != nil {
		return nil, 0, err
	}
	if dir, id, below := cgroup.Open(filepath.Join(mount.Path, path)); below == nil {
		return dir, id, nil
	}
	return nil, 0, err // the error for the path as it was given
}
