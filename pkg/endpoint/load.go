// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Load loads and pins the programs with n.Settings. It reports whether it did: what is loaded already stays as it is.
func (n *Node) Load(ctx context.Context) (loaded bool, err error) {
	s, err := n.load(ctx)
	if err != nil {
		return false, err
	}
	defer s.end()
	return s.loaded, nil
}

// Unload sends live flows to TCP and removes all links, programs and maps, and with them every record. It reports
// whether there was anything. With force it removes damaged state and that of other versions, too: see datapath.Unload.
func (n *Node) Unload(ctx context.Context, force bool) (unloaded bool, err error) {
	return n.unload(ctx, func() (bool, error) { return true, datapath.Unload(n.Dir, force) })
}

// UnloadByHand is Unload for a person. LoadUnlessUnloaded does not load any more until Load, Add, ForgetUnload or a reboot,
// and what is loaded next begins with the kill switch as it was.
func (n *Node) UnloadByHand(ctx context.Context, force bool) (unloaded bool, err error) {
	return n.unload(ctx, func() (bool, error) { return datapath.UnloadByHand(n.Dir, force) })
}

func (n *Node) unload(ctx context.Context, do func() (bool, error)) (unloaded bool, err error) {
	held, err := n.lock(ctx, false)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return false, n.unmount()
	}
	if err != nil {
		return false, err
	}
	defer held.Unlock()
	// Forced removal must not go where pins cannot be.
	if err := datapath.CheckDir(n.Dir); err != nil {
		return false, err
	}
	if err := n.step("unload"); err != nil {
		return false, err
	}
	if unloaded, err = do(); err != nil {
		return false, err
	}
	return unloaded, n.unmount()
}

// unmount takes the private cgroup2 mount away that an Add needed.
func (n *Node) unmount() error {
	mount, err := n.mount()
	if errors.Is(err, cgroup.ErrNoCgroup2) {
		return nil
	}
	if err != nil {
		return err
	}
	return mount.Unmount()
}

// Ready tells whether an Add could accelerate a container now. It loads for that if nothing is loaded: that a
// kernel takes the programs shows in no other way, and what is loaded serves the next Add.
func (n *Node) Ready(ctx context.Context) error {
	if _, err := n.mount(); err != nil && !errors.Is(err, cgroup.ErrNoCgroup2) {
		return err // none at all is fine: Add mounts one
	}
	d, err := datapath.Open(n.Dir)
	if err == nil {
		return d.Close()
	}
	if !errors.Is(err, datapath.ErrNotLoaded) {
		return err
	}
	// Where a person has unloaded, a runtime's question does not load again. It was possible then.
	_, err = n.LoadUnlessUnloaded(ctx)
	if errors.Is(err, ErrUnloadedByHand) {
		return nil
	}
	return err
}
