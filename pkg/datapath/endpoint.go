// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// HasPolicy reports whether the network namespace with this cookie is registered with the policy and its
// epoch has been raised for live sockets, so that SetEndpoint would change nothing.
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
	raised := int32(cfg.Epoch-uint32(is.Epoch)) >= 0 // it wraps
	want.Foreign, want.Epoch, want.Room = is.Foreign, is.Epoch, is.Room
	if !raised || is != want {
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
