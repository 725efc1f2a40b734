// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Registered is an endpoint as the programs know it. Equal groups are one namespace for PeersNamespace. The
// name of a group is not kept, so Policy.Namespace is empty.
type Registered struct {
	Policy
	Foreign bool // new connections stay on TCP, see SetForeign
}

// Endpoint reads how the network namespace with this cookie is registered; ok is false when it is not.
func (d *Datapath) Endpoint(cookie uint64) (r Registered, ok bool, err error) {
	var ep bpf.SockmapEndpoint
	m, err := d.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(ep))
	if err != nil {
		return r, false, err
	}
	if err := m.Lookup(cookie, &ep); errors.Is(err, ebpf.ErrKeyNotExist) {
		return r, false, nil
	} else if err != nil {
		return r, false, fmt.Errorf("read endpoint: %w", err)
	}
	r = Registered{Policy: decodePolicy(&ep), Foreign: ep.Foreign != 0}
	return r, true, nil
}
