// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// ErrUnloadedByHand: a person has unloaded, and nobody has asked to load again since.
var ErrUnloadedByHand = errors.New("sockmap was unloaded by hand")

// LoadUnlessUnloaded is Load for those who load without being asked, like the agent: it respects UnloadByHand, and returns
// ErrUnloadedByHand then.
func (n *Node) LoadUnlessUnloaded(ctx context.Context) (loaded bool, err error) {
	// Asked before, for a refusal costs no lock and mounts nothing, and again with the lock held.
	if err := refuseUnloaded(n.Dir); err != nil {
		return false, err
	}
	s, err := n.begin(ctx, true, refuseUnloaded)
	if err != nil {
		return false, err
	}
	defer s.end()
	return s.loaded, nil
}

func refuseUnloaded(dir string) error {
	at, ok := datapath.UnloadedByHand(dir)
	if !ok {
		return nil
	}
	return fmt.Errorf("%w at %s (load again with: sockmapctl load)", ErrUnloadedByHand, at.Format(time.RFC3339))
}

// ForgetUnload lets LoadUnlessUnloaded load again after UnloadByHand. It reports whether that was needed.
func (n *Node) ForgetUnload(ctx context.Context) (changed bool, err error) {
	return n.mark(ctx, datapath.ForgetUnload)
}

// mark changes marks in the state directory. Where there is none, there are no marks.
func (n *Node) mark(ctx context.Context, change func(dir string) (bool, error)) (changed bool, err error) {
	if _, ok := datapath.UnloadedByHand(n.Dir); !ok {
		return false, nil
	}
	held, err := n.lock(ctx, false)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer held.Unlock()
	return change(n.Dir)
}
