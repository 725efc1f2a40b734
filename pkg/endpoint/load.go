// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"io/fs"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Load loads and pins the programs with n.Settings, and reports whether it did. If programs are loaded
// already, they stay as they are; an interrupted unload is undone, so the kill switch is as it was before it.
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

// Unload sends live flows to TCP and removes all links, programs, maps and attachments. It reports whether
// there was anything to remove. With force it also removes damaged state and state of other versions, see
// datapath.Unload.
func (n *Node) Unload(ctx context.Context, force bool) (unloaded bool, err error) {
	return n.unload(ctx, func(dir string) (bool, error) {
		_, err := datapath.Removal{Force: force, Step: n.step}.Do(dir)
		return true, err
	})
}

// UnloadOnRequest is Unload on behalf of a user. After it LoadUnlessUnloaded does not load until the next
// Load, Add, ForgetUnload or reboot. The next load starts with the kill switch in its current position.
func (n *Node) UnloadOnRequest(ctx context.Context, force bool) (unloaded bool, err error) {
	return n.unload(ctx, func(dir string) (bool, error) {
		return datapath.Removal{Force: force, OnRequest: true, Step: n.step}.Do(dir)
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
	// A forced removal does not check what it removes, so it must use the open directory: by now the name may
	// lead to another one.
	if unloaded, err = do(locked.Path()); err != nil {
		return false, err
	}
	return unloaded, n.unmount()
}

// unmount removes the private mount of cgroup2 that an Add needed. It does nothing in a root without /proc,
// in which packages may be removed.
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

// Ready returns nil if an Add that accepts these hazards could accelerate a container now. It takes the steps
// of an Add that precede the container's own, so it loads the programs if nothing is loaded: only a load
// shows that a kernel accepts them, and the next Add can use them. The kill switch does not matter, as no Add
// fails because of it.
func (n *Node) Ready(ctx context.Context, accepted ...string) error {
	if _, err := n.findMount(); err != nil && !errors.Is(err, cgroup.ErrNoCgroup2) {
		return err // no mount is fine: Add mounts cgroup2
	}
	// If a user has unloaded the programs, a STATUS call must not load them again. Loading was possible
	// before.
	s, err := n.beginUnlessUnloaded(ctx)
	if errors.Is(err, ErrUnloadedOnRequest) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.end()
	return s.checkHazards(accepted)
}
