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

// LoadUnlessUnloaded is Load for those who load without being asked, and again and again, like the agent. It respects
// UnloadByHand, and returns an ErrUnloadedByHand then. Where loading failed less than a minute ago, it returns an
// ErrLoadFailed with the reason and does not try.
func (n *Node) LoadUnlessUnloaded(ctx context.Context) (loaded bool, err error) {
	s, err := n.loadUnlessUnloaded(ctx)
	if err != nil {
		return false, err
	}
	defer s.end()
	return s.loaded, nil
}

func (n *Node) loadUnlessUnloaded(ctx context.Context) (*session, error) {
	return n.loadUnless(ctx, refuseUnloaded, n.failedBefore)
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
	return change(held.Path())
}
