// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"
	"path/filepath"
)

// Common names a network namespace or a cgroup that several attachments share. A mark of it is kept beside
// the pins. If there is none, removing an attachment need not look at all others. A superfluous mark costs
// that look, nothing else.
type Common string

// CommonNetNS is a network namespace, by its cookie.
func CommonNetNS(cookie uint64) Common { return Common(fmt.Sprintf("netns-%d", cookie)) }

// CommonCgroup is a cgroup, by its id.
func CommonCgroup(id uint64) Common { return Common(LinkKey{CgroupID: id}.String()) }

// completeCommon marks that no mark is missing.
const completeCommon Common = "complete"

func (d *Datapath) commonPin(c Common) string {
	return filepath.Join(d.layout.pin(commonDir), string(c))
}

// MarkCommon sets the mark, before the second attachment that shares c is written. It is no error if it is
// set.
func (d *Datapath) MarkCommon(c Common) error {
	if err := os.MkdirAll(d.commonPin(c), 0o700); err != nil {
		return fmt.Errorf("mark a thing that several attachments share: %w", err)
	}
	return nil
}

// IsCommon reports whether the mark is set.
func (d *Datapath) IsCommon(c Common) (bool, error) {
	there, err := isThere(d.commonPin(c))
	if err != nil {
		return false, fmt.Errorf("look for the mark of a thing that several attachments share: %w", err)
	}
	return there, nil
}

// ClearCommon removes the mark, when no attachment uses c any more. It is no error if it is not set.
func (d *Datapath) ClearCommon(c Common) error {
	if err := removeIfThere(d.commonPin(c)); err != nil {
		return fmt.Errorf("clear the mark of a thing that several attachments share: %w", err)
	}
	return nil
}

// CompleteCommon marks the marks as complete: without a mark, at most one attachment uses a thing, and
// everything that attachments name exists. A call that changes attachments calls UncompleteCommon first and
// CompleteCommon at its end.
func (d *Datapath) CompleteCommon() error { return d.MarkCommon(completeCommon) }

// CommonComplete reports whether the marks are complete. They are not in state of an older version, and after
// a killed call.
func (d *Datapath) CommonComplete() (bool, error) { return d.IsCommon(completeCommon) }

// UncompleteCommon undoes CompleteCommon.
func (d *Datapath) UncompleteCommon() error { return d.ClearCommon(completeCommon) }

// HasLink reports whether a link is pinned, alive or not.
func (d *Datapath) HasLink(key LinkKey) (bool, error) {
	there, err := isThere(d.layout.link(key))
	if err != nil {
		return false, fmt.Errorf("look for pinned link %s: %w", key, err)
	}
	return there, nil
}
