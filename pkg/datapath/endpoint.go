// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
)

// MaxPortRanges is how many ranges each of include and exclude can hold.
const MaxPortRanges = int(bpf.SockmapAbiMAX_PORT_RANGES)

// Peers limits the peers of an endpoint's flows. Both ends must permit a flow.
type Peers uint8

// See bpf/abi.h.
const (
	PeersNode      = Peers(bpf.SockmapPeersPEERS_NODE)
	PeersNamespace = Peers(bpf.SockmapPeersPEERS_NAMESPACE)
	PeersPod       = Peers(bpf.SockmapPeersPEERS_POD)
)

// PortRange is inclusive at both ends.
type PortRange = portrange.Range

// String is the value of the key peers.
func (p Peers) String() string {
	switch p {
	case PeersNode:
		return "node"
	case PeersNamespace:
		return "namespace"
	case PeersPod:
		return "pod"
	}
	return fmt.Sprintf("number-%d", uint8(p))
}

// Policy is what an endpoint allows.
type Policy struct {
	Accelerate bool   // false: opted out, whichever link covers its cgroup
	Namespace  string // equal names are one namespace for PeersNamespace; empty: alone
	Group      uint64 // of a policy that was read: equal groups are one namespace; 0: follows from Namespace
	Peers      Peers
	Include    []PortRange // of the passive end; empty: every port
	Exclude    []PortRange
}

func (p Policy) encode(cookie uint64) (bpf.SockmapEndpoint, error) {
	ep := bpf.SockmapEndpoint{Group: cmp.Or(p.group(), cookie), Peers: uint8(p.Peers)}
	if err := p.check(); err != nil {
		return ep, err
	}
	if p.Accelerate {
		ep.Accelerate = 1
	}
	ep.Includes, ep.Excludes = uint8(len(p.Include)), uint8(len(p.Exclude))
	for i, r := range p.Include {
		ep.Include[i].First, ep.Include[i].Last = r.First, r.Last
	}
	for i, r := range p.Exclude {
		ep.Exclude[i].First, ep.Exclude[i].Last = r.First, r.Last
	}
	return ep, nil
}

func (p Policy) check() error {
	if len(p.Include) > MaxPortRanges || len(p.Exclude) > MaxPortRanges {
		return fmt.Errorf("ports have %d included and %d excluded ranges, at most %d each are possible",
			len(p.Include), len(p.Exclude), MaxPortRanges)
	}
	return nil
}

// group returns 0 for a policy that is alone in its namespace.
func (p Policy) group() uint64 {
	if p.Group != 0 || p.Namespace == "" {
		return p.Group
	}
	// Hashed so that it fits a word. Truncated SHA-256: nobody can choose a name that lands on another's.
	sum := sha256.Sum256([]byte(p.Namespace))
	return binary.NativeEndian.Uint64(sum[:8])
}

func decodePolicy(ep *bpf.SockmapEndpoint) Policy {
	p := Policy{Accelerate: ep.Accelerate != 0, Group: ep.Group, Peers: Peers(ep.Peers)}
	for _, r := range ep.Include[:min(int(ep.Includes), MaxPortRanges)] {
		p.Include = append(p.Include, PortRange{First: r.First, Last: r.Last})
	}
	for _, r := range ep.Exclude[:min(int(ep.Excludes), MaxPortRanges)] {
		p.Exclude = append(p.Exclude, PortRange{First: r.First, Last: r.Last})
	}
	return p
}

// HasPolicy reports whether the network namespace with this cookie is registered with the policy and live
// sockets have been told, so that SetEndpoint would change nothing.
func (d *Datapath) HasPolicy(cookie uint64, p Policy) (bool, error) {
	want, err := p.encode(cookie)
	if err != nil {
		return false, err
	}
	m, err := d.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(want))
	if err != nil {
		return false, err
	}
	var is bpf.SockmapEndpoint
	if err := m.Lookup(cookie, &is); errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read endpoint: %w", err)
	}
	cfg, err := d.config()
	if err != nil {
		return false, err
	}
	told := int32(cfg.Epoch-uint32(is.Epoch)) >= 0 // it wraps
	want.Foreign, want.Epoch, want.Room = is.Foreign, is.Epoch, is.Room
	if !told || is != want {
		return false, nil
	}
	has := true
	err = d.alsoDraining(func(old *Datapath) (err error) {
		has, err = old.HasPolicy(cookie, p)
		return err
	})
	return has, err
}

// SetEndpoint registers the network namespace with this cookie, or changes its policy. All live sockets then
// ask again, even if nothing has changed: a socket may be in a namespace that was not registered until now,
// and a killed call may not have raised the epoch.
func (d *Datapath) SetEndpoint(cookie uint64, p Policy) error {
	ep, err := p.encode(cookie)
	if err != nil {
		return err
	}
	// First, so that a killed call is repeated: the state in force shows whether it was done.
	if err := d.alsoDraining(func(old *Datapath) error { return old.SetEndpoint(cookie, p) }); err != nil {
		return err
	}
	m, err := d.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(ep))
	if err != nil {
		return err
	}
	sums, err := d.totals()
	if err != nil {
		return err
	}
	shares, err := d.mapOf(bpf.SockmapMapShares, unsafe.Sizeof(bpf.SockmapShare{}))
	if err != nil {
		return err
	}
	if err := errors.Join(newTotals(sums, cookie), newShare(shares, cookie)); err != nil {
		return err
	}
	var was bpf.SockmapEndpoint
	if m.Lookup(cookie, &was) == nil {
		ep.Foreign = was.Foreign // not part of the policy
	}
	cfg, err := d.config()
	if err != nil {
		return err
	}
	// Written with the policy, before the epoch is bumped, so that a call that is killed in between leaves a
	// trace.
	ep.Epoch = uint64(cfg.Epoch + 1)
	if err := m.Put(cookie, &ep); err != nil {
		return fmt.Errorf("register endpoint: %w", err)
	}
	return d.bumpEpoch()
}

// DeleteEndpoint removes a network namespace and adds its totals to the retired ones. Live sockets that have
// known it as registered stay on TCP until it is registered again. It is no error if there is none.
func (d *Datapath) DeleteEndpoint(cookie uint64) error {
	if err := d.alsoDraining(func(old *Datapath) error { return old.DeleteEndpoint(cookie) }); err != nil {
		return err
	}
	m, err := d.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(bpf.SockmapEndpoint{}))
	if err != nil {
		return err
	}
	if err := m.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget endpoint: %w", err)
	}
	return errors.Join(d.bumpEpoch(), d.retireTotals(cookie), d.deleteShare(cookie))
}

// Endpoints lists the cookies of registered network namespaces and whether they take part.
func (d *Datapath) Endpoints() (map[uint64]bool, error) {
	m, err := d.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(bpf.SockmapEndpoint{}))
	if err != nil {
		return nil, err
	}
	var (
		cookie uint64
		ep     bpf.SockmapEndpoint
		all    = map[uint64]bool{}
	)
	it := m.Iterate()
	for it.Next(&cookie, &ep) {
		all[cookie] = ep.Accelerate != 0
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	return all, nil
}
