// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// ErrUnloadedOnRequest: a user has unloaded the programs, and nobody has asked to load them since.
var ErrUnloadedOnRequest = errors.New("sockmap was unloaded with sockmapctl unload")

// LoadUnlessUnloaded is Load for callers that load repeatedly on their own account, like the agent. It
// returns ErrUnloadedOnRequest after UnloadOnRequest. If loading failed less than a minute ago, it does not
// try again and returns an ErrLoadFailed with the reason.
func (n *Node) LoadUnlessUnloaded(ctx context.Context) (loaded bool, err error) {
	s, err := n.beginUnlessUnloaded(ctx)
	if err != nil {
		return false, err
	}
	defer s.end()
	return s.loadedNow, nil
}

func (n *Node) beginUnlessUnloaded(ctx context.Context) (*session, error) {
	return n.beginOrLoadUnless(ctx, refuseUnloaded, n.failedBefore)
}

func refuseUnloaded(dir string) error {
	at, ok := datapath.UnloadedOnRequest(dir)
	if !ok {
		return nil
	}
	return fmt.Errorf("%w at %s (load again with: sockmapctl load)", ErrUnloadedOnRequest,
		at.Format(time.RFC3339))
}

// ForgetUnload allows LoadUnlessUnloaded to load again after UnloadOnRequest. It reports whether that was
// necessary.
func (n *Node) ForgetUnload(ctx context.Context) (changed bool, err error) {
	return n.changeMarks(ctx, datapath.ForgetUnload)
}

// changeMarks changes marks in the state directory. If the directory does not exist, there are no marks.
func (n *Node) changeMarks(ctx context.Context,
	change func(dir string) (bool, error)) (changed bool, err error) {
	if _, ok := datapath.UnloadedOnRequest(n.Dir); !ok {
		return false, nil
	}
	locked, err := n.lockDir(ctx, false)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer locked.Unlock()
	return change(locked.Path())
}
