// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
)

// MarkUnswept marks that there may be a link or an endpoint without an attachment, before a call makes one. A
// call that finds the mark sweeps and clears it. Without the mark no call needs to look at all links of the
// node. made is false if another call has set it already.
func (d *Datapath) MarkUnswept() (made bool, err error) {
	err = os.Mkdir(d.layout.pin(unsweptDir), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mark state as unswept: %w", err)
	}
	return true, nil
}

// Unswept reports whether the mark is set.
func (d *Datapath) Unswept() bool { return exists(d.layout.pin(unsweptDir)) }

// ClearUnswept removes the mark. It is no error if it is not set.
func (d *Datapath) ClearUnswept() error {
	if err := removeIfThere(d.layout.pin(unsweptDir)); err != nil {
		return fmt.Errorf("clear the mark of unswept state: %w", err)
	}
	return nil
}

// AttachmentsAfter calls f for the attachments after that of key, in the map's order, and then for those
// before it, until f returns false. The map's order is random. f may delete the attachment that it is called
// for. The caller holds the lock.
func (d *Datapath) AttachmentsAfter(key AttachmentKey, f func(AttachmentKey, Attachment) bool) error {
	m, err := d.attachments()
	if err != nil {
		return err
	}
	var next AttachmentKey
	err = m.NextKey(key, &next)
	wrapped := errors.Is(err, ebpf.ErrKeyNotExist)
	if wrapped {
		err = m.NextKey(nil, &next)
	}
	for err == nil && next != key {
		at := next
		// Before f, because after a deleted key the kernel starts again at the first.
		more := m.NextKey(at, &next)
		if attachment, ok, err := d.Attachment(at); err != nil {
			return err
		} else if ok && !f(at, attachment) {
			return nil
		}
		if err = more; errors.Is(err, ebpf.ErrKeyNotExist) && !wrapped {
			wrapped = true
			err = m.NextKey(nil, &next)
		}
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("walk over attachments: %w", err)
	}
	return nil
}
