// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
)

// MarkUnswept leaves word that there may be a link or an endpoint that no record names, before a call makes
// one so. Whoever finds the mark sweeps and clears it. Without it a call need not look at all links of the
// node. It returns whether it made the mark: one that is there already is about what another call has left.
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

// Unswept tells whether the mark is there.
func (d *Datapath) Unswept() bool { return exists(d.layout.pin(unsweptDir)) }

// ClearUnswept takes the mark away. One that is not there is not an error.
func (d *Datapath) ClearUnswept() error {
	if err := removeIfThere(d.layout.pin(unsweptDir)); err != nil {
		return fmt.Errorf("clear the mark of unswept state: %w", err)
	}
	return nil
}

// AttachmentsAfter calls f for the records behind that of key, in the order of the map, and then for those in
// front of it, until f returns false. The map's order has nothing to do with the keys. f may remove the
// record that it is called for. The caller holds the lock.
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
		// Before f, as the kernel begins again behind a key that is gone.
		more := m.NextKey(at, &next)
		if record, ok, err := d.Attachment(at); err != nil {
			return err
		} else if ok && !f(at, record) {
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
