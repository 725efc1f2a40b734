// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// SetDisabled turns the kill switch of the node, for live flows too. It reports whether the switch was
// changed, and returns datapath.ErrNotLoaded if there is no switch.
//
// After UnloadOnRequest it sets the position of the switch after the next load. Enabling also cancels the
// mark of UnloadOnRequest.
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
	// If an unload turned the switch, it counts as turned by the user from now on.
	if err != nil || now.Disabled == disabled && !s.d.Unloading() {
		return false, err
	}
	if err := s.step("switch"); err != nil {
		return false, err
	}
	return now.Disabled != disabled, s.d.SetDisabled(disabled)
}

func (n *Node) setDisabledAfterUnload(ctx context.Context, disabled bool,
	notLoaded error) (changed bool, err error) {
	if _, ok := datapath.UnloadedOnRequest(n.Dir); !ok {
		return false, notLoaded
	}
	return n.changeMarks(ctx, func(dir string) (bool, error) {
		if _, ok := datapath.UnloadedOnRequest(dir); !ok {
			return false, fmt.Errorf("%w: the programs were loaded meanwhile (run this again)", ErrBusy)
		}
		changed, err := datapath.MarkDisabled(dir, disabled)
		if err != nil || disabled {
			return changed, err
		}
		return datapath.ForgetUnload(dir)
	})
}
