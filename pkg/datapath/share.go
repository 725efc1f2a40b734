// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// ShareDivisor: a network namespace with more than MaxSockets/ShareDivisor sockets in the sockhash gets no
// more while the sockhash is more than half full, see bpf/share.h.
const ShareDivisor = int(bpf.SockmapAbiSHARE_DIVISOR)

// driftDivisor: shares are corrected if they are wrong by more than MaxSockets/driftDivisor.
const driftDivisor = 256

// newShare adds the share of the network namespace with this cookie, unless it exists.
func newShare(m *ebpf.Map, cookie uint64) error {
	if err := m.Update(cookie, bpf.SockmapShare{}, ebpf.UpdateNoExist); err != nil &&
		!errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("make share: %w", err)
	}
	return nil
}

// makeShares adds the shares of all endpoints, for state of an ABI without shares.
func (d *Datapath) makeShares() error {
	cookies, err := d.Endpoints()
	if err != nil {
		return err
	}
	m, err := d.mapOf(bpf.SockmapMapShares, unsafe.Sizeof(bpf.SockmapShare{}))
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

// deleteShare removes the share of a network namespace. It is no error if there is none.
func (d *Datapath) deleteShare(cookie uint64) error {
	m, err := d.mapOf(bpf.SockmapMapShares, unsafe.Sizeof(bpf.SockmapShare{}))
	if err != nil {
		return err
	}
	if err := m.Delete(cookie); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget share: %w", err)
	}
	return nil
}

// SocketShares returns how many sockets of each registered network namespace are in the sockhash, by netns
// cookie, as the programs count them. Cookie 0 is for namespaces that were not registered when their sockets
// entered.
func (d *Datapath) SocketShares() (map[uint64]int, error) {
	all, err := d.shares()
	if err != nil {
		return nil, err
	}
	counts := make(map[uint64]int, len(all))
	for cookie, s := range all {
		counts[cookie] = int(s.Sockets)
	}
	return counts, nil
}

func (d *Datapath) shares() (map[uint64]bpf.SockmapShare, error) {
	m, err := d.mapOf(bpf.SockmapMapShares, unsafe.Sizeof(bpf.SockmapShare{}))
	if err != nil {
		return nil, err
	}
	var (
		cookie uint64
		share  bpf.SockmapShare
		all    = map[uint64]bpf.SockmapShare{}
	)
	it := m.Iterate()
	for it.Next(&cookie, &share) {
		all[cookie] = share
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list shares: %w", err)
	}
	return all, nil
}

// CountShares lists the live sockets and corrects the shares, in sockets and in bytes of grown windows.
// Shares become wrong if no callback runs at a socket's end, because the link of its cgroup is gone or
// because it was closed with unread redirected bytes, and if a network namespace is registered again. It
// returns how many shares it changed. Counts that change meanwhile are no drift, and neither is less than
// 1/256 of MaxSockets and of the bytes that one pod's windows may grow by. It takes no lock; where the kernel
// lists no sockets it returns ErrNotListed.
func (d *Datapath) CountShares() (changed int, err error) {
	before, err := d.shares()
	if err != nil {
		return 0, err
	}
	config, err := d.Config()
	if err != nil {
		return 0, err
	}
	counted, unlisted, err := d.countSockets(config.firstWindow())
	if err != nil {
		return 0, err
	}
	after, err := d.shares()
	if err != nil {
		return 0, err
	}
	tolerated := held{sockets: int64(config.MaxSockets / driftDivisor),
		granted: config.windowBudget() / driftDivisor}
	for cookie, now := range after {
		was, ok := before[cookie]
		off := drifted(was, now, counted[cookie], unlisted).beyond(tolerated)
		if !ok || off == (held{}) {
			continue
		}
		if err := d.addToShare(cookie, off); err != nil {
			return changed, err
		}
		changed++
	}
	return changed, nil
}

// held is what one network namespace holds.
type held struct {
	sockets int64
	granted int64 // bytes, by which the windows of flows to it have grown
}

// beyond is the drift without what is tolerated.
func (h held) beyond(tolerated held) held {
	if max(h.sockets, -h.sockets) <= tolerated.sockets {
		h.sockets = 0
	}
	if max(h.granted, -h.granted) <= tolerated.granted {
		h.granted = 0
	}
	return h
}

// countSockets counts the live sockets by the cookies of their shares. An iterator over network namespaces
// does not find sockets whose connection is over: unlisted is the most that these hold.
func (d *Datapath) countSockets(firstWindow uint8) (counted map[uint64]held, unlisted held, err error) {
	registered, err := d.shares()
	if err != nil {
		return nil, unlisted, err
	}
	counted = map[uint64]held{}
	listed := 0
	err = d.allSockets(func(f Flow) bool {
		if granted := windowGrowth(f.window) - windowGrowth(firstWindow); granted > 0 {
			reader := f.PeerNetNSCookie
			if _, ok := registered[reader]; !ok {
				reader = unregistered
			}
			h := counted[reader]
			h.granted += granted
			counted[reader] = h
		}
		if f.ends&bpf.SockmapEndFlagEND_COUNTED == 0 {
			return true
		}
		listed++
		cookie := f.NetNSCookie
		if f.ends&bpf.SockmapEndFlagEND_SHARE_UNREGISTERED != 0 {
			cookie = unregistered
		}
		h := counted[cookie]
		h.sockets++
		counted[cookie] = h
		return true
	})
	if err != nil {
		return nil, unlisted, err
	}
	there, err := socketsLeft(d.layout, math.MaxInt32)
	unlisted.sockets = int64(max(there-listed, 0))
	unlisted.granted = unlisted.sockets * windowGrowth(uint8(bpf.SockmapWindowNumberWINDOW_MAX))
	return counted, unlisted, err
}

func drifted(before, after bpf.SockmapShare, counted, unlisted held) held {
	return held{
		sockets: drift(int64(before.Sockets), int64(after.Sockets), counted.sockets, unlisted.sockets),
		granted: drift(before.GrantedBytes, after.GrantedBytes, counted.granted, unlisted.granted),
	}
}

// drift is by how much a share is less than what was counted, or more than that plus all that was not listed,
// both before and after counting.
func drift(before, after, counted, unlisted int64) int64 {
	low, high := min(before, after), max(before, after)
	return max(counted-high, 0) + min(counted+unlisted-low, 0)
}

// addToShare changes an entry that programs change, too. Their changes between its read and its write are
// lost; the next CountShares corrects that.
func (d *Datapath) addToShare(cookie uint64, off held) error {
	m, err := d.mapOf(bpf.SockmapMapShares, unsafe.Sizeof(bpf.SockmapShare{}))
	if err != nil {
		return err
	}
	var share bpf.SockmapShare
	if err := m.Lookup(cookie, &share); errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read share: %w", err)
	}
	share.Sockets = max(share.Sockets+int32(off.sockets), 0)
	share.GrantedBytes = max(share.GrantedBytes+off.granted, 0)
	if err := m.Update(cookie, &share, ebpf.UpdateExist); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("correct share: %w", err)
	}
	return nil
}
