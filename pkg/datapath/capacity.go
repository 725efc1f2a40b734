// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// The maps that can fill up, by the names of their pins.
const (
	MapSockets     = bpf.SockmapMapSockets
	MapEndpoints   = bpf.SockmapMapEndpoints
	MapAttachments = bpf.SockmapMapAttachments
)

// Capacity returns how many entries each map that can fill up has room for.
func (d *Datapath) Capacity() (map[string]uint32, error) {
	capacity := map[string]uint32{}
	for name, valueSize := range map[string]uintptr{
		MapSockets:     8,
		MapEndpoints:   unsafe.Sizeof(bpf.SockmapEndpoint{}),
		MapAttachments: unsafe.Sizeof(bpf.SockmapAttachment{}),
	} {
		m, err := d.mapOf(name, valueSize)
		if err != nil {
			return nil, err
		}
		capacity[name] = m.MaxEntries()
	}
	return capacity, nil
}
