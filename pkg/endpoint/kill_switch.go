// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// SetDisabled turns the kill switch of the whole node, for live flows too. It reports whether it stood the other way
// before, and returns datapath.ErrNotLoaded where there is no switch to turn.
//
// After an UnloadByHand it decides how the switch stands after the next load; to enable forgets the unload, too.
func (n *Node) SetDisabled(ctx context.Context, disabled bool) (changed bool, err error) {
	s, err := n.beginLoaded(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return n.setDisabledAfterUnload(ctx, disabled, err)
	}
	if err != nil {
		return false, err
	}
	defer s.end()
	now, err := s.d.Config()
	// A switch that an unload has turned is a person's from now on.
	if err != nil || now.Disabled == disabled && !s.d.Unloading() {
		return false, err
	}
	if err := s.step("switch"); err != nil {
		return false, err
	}
	return now.Disabled != disabled, s.d.SetDisabled(disabled)
}

func (n *Node) setDisabledAfterUnload(ctx context.Context, disabled bool, notLoaded error) (changed bool, err error) {
	if _, ok := datapath.UnloadedByHand(n.Dir); !ok {
		return false, notLoaded
	}
	return n.changeMarks(ctx, func(dir string) (bool, error) {
		if _, ok := datapath.UnloadedByHand(dir); !ok {
			return false, fmt.Errorf("%w: somebody has loaded meanwhile, call again", ErrBusy)
		}
		changed, err := datapath.MarkDisabled(dir, disabled)
		if err != nil || disabled {
			return changed, err
		}
		return datapath.ForgetUnload(dir)
	})
}
