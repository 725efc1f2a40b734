// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// tidy completes or removes what killed calls have begun beside the state in force, and removes state of
// older ABIs whose last flow has closed. If there is nothing beside the state, it reads one directory.
func (s *session) tidy() error {
	found, err := datapath.FindLeftovers(s.Dir)
	if err != nil {
		return err
	}
	var errs []error
	if found.Unfinished {
		errs = append(errs, datapath.RemoveUnfinished(s.Dir))
	}
	if len(found.Older) > 0 || slices.Contains(found.Draining, datapath.ABI) {
		errs = append(errs, s.settle())
	}
	if len(found.Draining) > 0 {
		abis, err := datapath.ReapDrained(s.Dir, s.step)
		for _, abi := range abis {
			s.log().Info("the last flow of the older programs has closed", "abi", abi)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// settle completes a replacement of state whose process was killed before the end, so that the old state
// drains.
func (s *session) settle() error {
	d, err := datapath.Open(s.Dir)
	var foreign *datapath.StateError
	if errors.As(err, &foreign) {
		return nil // it is in force itself, or neither is ours
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Settle(s.upgradeSteps())
}
