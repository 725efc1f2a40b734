// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Keys of totals that are no netns cookies. The programs add to unregistered the counts of sockets without a
// registered endpoint. User space adds to retired, under the lock, the sums of endpoints that are gone, so
// that the node's sums never decrease.
const (
	unregistered = uint64(0)
	retired      = ^uint64(0)
)

// resultRoom is how many results a role has room for.
const resultRoom = int(bpf.SockmapAbiRESULT_ROOM)

// Totals are sums over closed sockets, and over all connections ever made.
type Totals struct {
	RedirectedBytes    uint64
	RedirectedMessages uint64
	TCPBytes           uint64
	TCPMessages        uint64
	Flows              map[Role]map[Result]uint64
	Fallbacks          map[Reason]uint64
	BacklogHigh        uint64 // bytes: the most that waited for one reader of the endpoint; a maximum, not a sum
}

// Add adds the sums of more, and keeps the greater maximum.
func (t *Totals) Add(more Totals) {
	t.RedirectedBytes += more.RedirectedBytes
	t.RedirectedMessages += more.RedirectedMessages
	t.TCPBytes += more.TCPBytes
	t.TCPMessages += more.TCPMessages
	t.BacklogHigh = max(t.BacklogHigh, more.BacklogHigh)
	for role, results := range more.Flows {
		if t.Flows[role] == nil {
			t.Flows[role] = map[Result]uint64{}
		}
		addEach(t.Flows[role], results)
	}
	addEach(t.Fallbacks, more.Fallbacks)
}

func addEach[K comparable](sums, more map[K]uint64) {
	for k, n := range more {
		sums[k] += n
	}
}

func (d *Datapath) totals() (*ebpf.Map, error) {
	return d.mapOf(bpf.SockmapMapTotals, unsafe.Sizeof(bpf.SockmapTotals{}))
}

func newTotals(m *ebpf.Map, cookie uint64) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	zeros := make([]bpf.SockmapTotals, cpus)
	err = waitForRefill(func() error { return m.Update(cookie, zeros, ebpf.UpdateNoExist) })
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("make totals: %w", err)
	}
	return nil
}

// addTotals adds t to sum, word by word: every word of struct totals is a counter, except for the maximum
// backlog_high. So a new counter needs no change here.
func addTotals(sum, t *bpf.SockmapTotals) {
	high := max(sum.BacklogHigh, t.BacklogHigh)
	to, from := wordsOf(sum), wordsOf(t)
	for i, n := range from {
		to[i] += n
	}
	sum.BacklogHigh = high
}

type totalsWords [unsafe.Sizeof(bpf.SockmapTotals{}) / 8]uint64

func wordsOf(t *bpf.SockmapTotals) *totalsWords { return (*totalsWords)(unsafe.Pointer(t)) }

// retireTotals moves the sums of an endpoint to the retired entry.
func (d *Datapath) retireTotals(cookie uint64) error {
	m, err := d.totals()
	if err != nil {
		return err
	}
	var gone, sum []bpf.SockmapTotals
	if err := m.Lookup(cookie, &gone); errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read totals: %w", err)
	}
	if err := newTotals(m, retired); err != nil {
		return err
	}
	if err := m.Lookup(retired, &sum); err != nil {
		return fmt.Errorf("read retired totals: %w", err)
	}
	for i := range gone {
		addTotals(&sum[0], &gone[i])
	}
	// The sum first: after a kill in between something counts twice. In the other order counts would be lost.
	if err := m.Put(retired, sum); err != nil {
		return fmt.Errorf("write retired totals: %w", err)
	}
	if err := m.Delete(cookie); err != nil {
		return fmt.Errorf("remove totals: %w", err)
	}
	return nil
}

// Totals returns the sums by netns cookie. Cookie 0 has those of sockets without a registered endpoint and of
// retired endpoints. Its sums, and the sums over all cookies, never decrease.
func (d *Datapath) Totals() (map[uint64]Totals, error) {
	sums, err := d.sums()
	if err != nil {
		return nil, err
	}
	if gone := sums[retired]; gone != nil {
		if sums[unregistered] == nil {
			sums[unregistered] = &bpf.SockmapTotals{}
		}
		addTotals(sums[unregistered], gone)
		delete(sums, retired)
	}
	return decodeTotals(sums), nil
}

// PresentTotals are Totals without those of retired endpoints. So no cookie's sums grow by what another had
// counted before, which a rate would show as traffic.
func (d *Datapath) PresentTotals() (map[uint64]Totals, error) {
	sums, err := d.sums()
	if err != nil {
		return nil, err
	}
	delete(sums, retired)
	return decodeTotals(sums), nil
}

func (d *Datapath) sums() (map[uint64]*bpf.SockmapTotals, error) {
	m, err := d.totals()
	if err != nil {
		return nil, err
	}
	var (
		cookie uint64
		perCPU []bpf.SockmapTotals
		sums   = map[uint64]*bpf.SockmapTotals{}
	)
	it := m.Iterate()
	for it.Next(&cookie, &perCPU) {
		sum := &bpf.SockmapTotals{}
		for i := range perCPU {
			addTotals(sum, &perCPU[i])
		}
		sums[cookie] = sum
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list totals: %w", err)
	}
	return sums, nil
}

func decodeTotals(sums map[uint64]*bpf.SockmapTotals) map[uint64]Totals {
	all := make(map[uint64]Totals, len(sums))
	for cookie, sum := range sums {
		all[cookie] = decodeSums(sum)
	}
	return all
}

func decodeSums(t *bpf.SockmapTotals) Totals {
	out := Totals{
		RedirectedBytes: t.RedirectedBytes, RedirectedMessages: t.RedirectedMessages,
		TCPBytes: t.TcpBytes, TCPMessages: t.TcpMessages,
		Flows: map[Role]map[Result]uint64{}, Fallbacks: map[Reason]uint64{}, BacklogHigh: t.BacklogHigh,
	}
	for role := range Role(bpf.SockmapRoleROLE_MAX) {
		out.Flows[role] = map[Result]uint64{}
		for result := range Result(bpf.SockmapResultRESULT_MAX) {
			out.Flows[role][result] = t.Flows[int(role)*resultRoom+int(result)]
		}
	}
	for reason := ReasonNone + 1; reason < Reason(bpf.SockmapReasonREASON_MAX); reason++ {
		out.Fallbacks[reason] = t.Fallbacks[reason]
	}
	return out
}
