// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"
	"path/filepath"
)

// Common is what several records of attachments may name: a network namespace or a cgroup. A mark of each, beside the
// pins, spares whoever removes a record a look at all others. A mark too many costs that look, and nothing else.
type Common string

// CommonNetNS is a network namespace, by its cookie.
func CommonNetNS(cookie uint64) Common { return Common(fmt.Sprintf("netns-%d", cookie)) }

// CommonCgroup is a cgroup, by its id.
func CommonCgroup(id uint64) Common { return Common(LinkKey{CgroupID: id}.String()) }

// completeCommon is the mark that all others are there that there should be.
const completeCommon Common = "complete"

func (d *Datapath) commonPin(c Common) string {
	return filepath.Join(d.layout.pin(commonDir), string(c))
}

// MarkCommon makes the mark, before the second record that names the same is written. One that is there stays.
func (d *Datapath) MarkCommon(c Common) error {
	if err := os.MkdirAll(d.commonPin(c), 0o700); err != nil {
		return fmt.Errorf("mark what several records name: %w", err)
	}
	return nil
}

// IsCommon tells whether the mark is there.
func (d *Datapath) IsCommon(c Common) (bool, error) {
	there, err := isThere(d.commonPin(c))
	if err != nil {
		return false, fmt.Errorf("look for the mark of what several records name: %w", err)
	}
	return there, nil
}

// ClearCommon takes the mark away, once no record names it any more. One that is not there is not an error.
func (d *Datapath) ClearCommon(c Common) error {
	if err := removeIfThere(d.commonPin(c)); err != nil {
		return fmt.Errorf("clear the mark of what several records name: %w", err)
	}
	return nil
}

// CompleteCommon leaves word that what has no mark is named by one record at most, and that all that records name is made.
// Whoever changes a record takes the word back first, and gives it again once it is so.
func (d *Datapath) CompleteCommon() error { return d.MarkCommon(completeCommon) }

// CommonComplete tells whether that is so. State that an older version has made begins without, and a killed call leaves it
// without.
func (d *Datapath) CommonComplete() (bool, error) { return d.IsCommon(completeCommon) }

// UncompleteCommon takes the word back.
func (d *Datapath) UncompleteCommon() error { return d.ClearCommon(completeCommon) }

// HasLink tells whether a link is pinned, alive or not.
func (d *Datapath) HasLink(key LinkKey) (bool, error) {
	there, err := isThere(d.layout.link(key))
	if err != nil {
		return false, fmt.Errorf("look for pinned link %s: %w", key, err)
	}
	return there, nil
}
