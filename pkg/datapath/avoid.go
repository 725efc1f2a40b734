// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// AvoidFor is how long connections stay on TCP after a guard has last seen something that only TCP supports.
// For a server's port it doubles each time that it was over and is seen again, up to 64 times.
const AvoidFor = time.Duration(bpf.SockmapAvoidTimeAVOID_SECONDS) * time.Second

// Avoided describes later connections that stay on TCP, because a guard saw a program use something that only
// TCP supports.
type Avoided struct {
	NetNSCookie uint64         // of the network namespace of that program
	Port        uint16         // of the server
	Destination netip.AddrPort // of a client's connections; invalid: a server's port
	Why         []Reason       // what it did
	Left        time.Duration  // until it is forgotten
}

// habitReasons are what the observers see, in the order of their bits, as reasons of live flows.
var habitReasons = [...]struct {
	habit  bpf.SockmapHabit
	reason Reason
}{
	{bpf.SockmapHabitHABIT_WAITALL, ReasonWaitall}, {bpf.SockmapHabitHABIT_OOB, ReasonOOB},
	{bpf.SockmapHabitHABIT_BLOCKS, ReasonBlocking}, {bpf.SockmapHabitHABIT_DISCARD, ReasonDiscard},
	{bpf.SockmapHabitHABIT_SPLICE, ReasonSplice},
}

// avoidedEntry is an Avoided with its map and key.
type avoidedEntry struct {
	Avoided
	m   *ebpf.Map
	key any
}

// ListAvoided lists what is avoided now, in no order. Entries that are added or removed meanwhile may be
// missing.
func (d *Datapath) ListAvoided() ([]Avoided, error) {
	entries, err := d.avoidedEntries()
	if err != nil {
		return nil, err
	}
	all := make([]Avoided, 0, len(entries))
	for _, e := range entries {
		all = append(all, e.Avoided)
	}
	return all, nil
}

// ForgetAvoided removes the entries that match, so that later connections are accelerated again, and returns
// their number. Live connections do not change. A program that behaves as before is seen again.
func (d *Datapath) ForgetAvoided(matches func(Avoided) bool) (forgotten int, err error) {
	entries, err := d.avoidedEntries()
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if !matches(e.Avoided) {
			continue
		}
		if err := e.m.Delete(e.key); errors.Is(err, ebpf.ErrKeyNotExist) {
			continue // evicted just now
		} else if err != nil {
			return forgotten, fmt.Errorf("forget what is avoided: %w", err)
		}
		forgotten++
	}
	return forgotten, nil
}

func (d *Datapath) avoidedEntries() ([]avoidedEntry, error) {
	now := monotonic()
	ports, err := d.avoidedPorts(now)
	if err != nil {
		return nil, err
	}
	destinations, err := d.avoidedDestinations(now)
	return append(ports, destinations...), err
}

func (d *Datapath) avoidedPorts(now int64) (found []avoidedEntry, err error) {
	var (
		key   bpf.SockmapListeningPort
		noted bpf.SockmapAvoided
	)
	m, err := d.mapOf(bpf.SockmapMapAvoid, unsafe.Sizeof(noted))
	if err != nil {
		return nil, err
	}
	it := m.Iterate()
	for it.Next(&key, &noted) {
		if left := time.Duration(int64(noted.NotedNs)-now) + AvoidFor<<(noted.Again&7); left > 0 {
			a := Avoided{key.Netns, key.Port, netip.AddrPort{}, reasonsOf(noted.Habits), left}
			found = append(found, avoidedEntry{a, m, key})
		}
	}
	return found, listed(it.Err())
}

func (d *Datapath) avoidedDestinations(now int64) (found []avoidedEntry, err error) {
	var (
		key   bpf.SockmapDestination
		known bpf.SockmapHistory
	)
	m, err := d.mapOf(bpf.SockmapMapHistory, unsafe.Sizeof(known))
	if err != nil {
		return nil, err
	}
	it := m.Iterate()
	for it.Next(&key, &known) {
		left := time.Duration(int64(known.RestedNs) - now)
		if known.Avoided == 0 || left <= 0 {
			continue
		}
		port := hostOrder(key.Port)
		found = append(found, avoidedEntry{
			Avoided{key.Netns, port, addrPort(key.Family, key.Addr, port), []Reason{ReasonOOB}, left}, m, key,
		})
	}
	return found, listed(it.Err())
}

// listed ignores entries that were evicted while they were listed.
func listed(err error) error {
	if err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("list what is avoided: %w", err)
	}
	return nil
}

func reasonsOf(habits uint32) (why []Reason) {
	for _, h := range habitReasons {
		if habits&uint32(h.habit) != 0 {
			why = append(why, h.reason)
		}
	}
	return why
}

// hostOrder is of a port in network order.
func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}
