// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// newShare makes the entry in which the programs count what the network namespace with this cookie holds of what all pods
// share. One that is there stays as it is.
func newShare(m *ebpf.Map, cookie uint64) error {
	if err := m.Update(cookie, bpfShare{}, ebpf.UpdateNoExist); err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("make share: %w", err)
	}
	return nil
}

// makeShares makes the shares of all endpoints, for state of an ABI that had none.
func (d *Datapath) makeShares() error {
	cookies, err := d.Endpoints()
	if err != nil {
		return err
	}
	m, err := d.mapOf(bpfMapShares, unsafe.Sizeof(bpfShare{}))
	if err != nil {
		return err
	}
	for cookie := range cookies {
		if err := newShare(m, cookie); err != nil {
			return err
		}
	}
	return nil
}

// deleteShare forgets what a network namespace holds. One that is not there is not an error.
func (d *Datapath) deleteShare(cookie uint64) error {
	m, err := d.mapOf(bpfMapShares, unsafe.Sizeof(bpfShare{}))
	if err != nil {
		return err
	}
	if err := m.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget share: %w", err)
	}
	return nil
}
