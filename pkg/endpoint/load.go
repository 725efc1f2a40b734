// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"io/fs"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Load loads and pins the programs with n.Settings. It reports whether it did: what is loaded already stays as it is, but
// for an unload that was interrupted: what that has switched off is on again.
func (n *Node) Load(ctx context.Context) (loaded bool, err error) {
	s, err := n.beginSession(ctx, true)
	if err != nil {
		return false, err
	}
	defer s.end()
	if s.loadedNow {
		return true, nil
	}
	if err := s.step("resume"); err != nil {
		return false, err
	}
	_, err = s.d.Resume()
	return false, err
}

// Unload sends live flows to TCP and removes all links, programs and maps, and with them every record. It reports
// whether there was anything. With force it removes damaged state and that of other versions, too: see datapath.Unload.
func (n *Node) Unload(ctx context.Context, force bool) (unloaded bool, err error) {
	return n.unload(ctx, func(dir string) (bool, error) {
		_, err := datapath.Removal{Force: force, Step: n.step}.Do(dir)
		return true, err
	})
}

// UnloadByHand is Unload for a person. LoadUnlessUnloaded does not load any more until Load, Add, ForgetUnload or a reboot,
// and what is loaded next begins with the kill switch as it was.
func (n *Node) UnloadByHand(ctx context.Context, force bool) (unloaded bool, err error) {
	return n.unload(ctx, func(dir string) (bool, error) {
		return datapath.Removal{Force: force, ByHand: true, Step: n.step}.Do(dir)
	})
}

func (n *Node) unload(ctx context.Context, do func(dir string) (bool, error)) (unloaded bool, err error) {
	locked, err := n.lockDir(ctx, false)
	if errors.Is(err, datapath.ErrNotLoaded) && !errors.Is(err, datapath.ErrNoBPFFS) {
		return false, n.unmount()
	}
	if err != nil {
		return false, err
	}
	defer locked.Unlock()
	if err := n.step("unload"); err != nil {
		return false, err
	}
	// Forced removal does not look at what it removes: not by a name, which may lead to another directory by now.
	if unloaded, err = do(locked.Path()); err != nil {
		return false, err
	}
	return unloaded, n.unmount()
}

// unmount takes the private cgroup2 mount away that an Add needed. A root without /proc does not run, and packages may
// be removed there.
func (n *Node) unmount() error {
	mount, err := n.findMount()
	if errors.Is(err, cgroup.ErrNoCgroup2) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return mount.Unmount()
}

// Ready tells whether an Add that accepts these hazards could accelerate a container now, by going the way of an
// Add up to where it begins with the container. So it loads if nothing is loaded: that a kernel takes the programs
// shows in no other way, and what is loaded serves the next Add. The kill switch does not count, as it fails no Add.
func (n *Node) Ready(ctx context.Context, accepted ...string) error {
	if _, err := n.findMount(); err != nil && !errors.Is(err, cgroup.ErrNoCgroup2) {
		return err // none at all is fine: Add mounts one
	}
	// Where a person has unloaded, a runtime's question does not load again. It was possible then.
	s, err := n.beginUnlessUnloaded(ctx)
	if errors.Is(err, ErrUnloadedByHand) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.end()
	return s.checkHazards(accepted)
}
