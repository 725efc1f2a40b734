// SPDX-License-Identifier: Apache-2.0

package endpoint

import "context"

// SetDisabled turns the kill switch of the whole node, for live flows too. It reports whether it stood the other way
// before, and returns datapath.ErrNotLoaded where there is no switch to turn.
func (n *Node) SetDisabled(ctx context.Context, disabled bool) (changed bool, err error) {
	s, err := n.change(ctx)
	if err != nil {
		return false, err
	}
	defer s.end()
	now, err := s.d.Config()
	if err != nil || now.Disabled == disabled {
		return false, err
	}
	if err := s.step("switch"); err != nil {
		return false, err
	}
	return true, s.d.SetDisabled(disabled)
}
