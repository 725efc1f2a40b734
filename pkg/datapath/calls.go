// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
)

// callCommands are the CNI commands that are counted. Indexes are struct call_key's command, so never change
// the order.
var callCommands = [...]string{"ADD", "DEL", "CHECK", "GC"}

// CallCommands lists the CNI commands that Calls can have.
func CallCommands() []string { return slices.Clone(callCommands[:]) }

const (
	callBuckets = int(bpf.SockmapCallBucketCALL_BUCKETS)
	callFirst   = time.Duration(bpf.SockmapCallBucketCALL_FIRST_US) * time.Microsecond
)

// callLockTimeout bounds how long a call waits to be counted. The holder of that lock reads and writes one
// entry.
const callLockTimeout = 20 * time.Millisecond

// CallKey groups calls of the plugin by command and result.
type CallKey struct {
	Command  string
	Code     uint32 // of the CNI error; 0: none
	Withheld bool   // the runtime got no error
}

// CallSums are sums over calls of one key.
type CallSums struct {
	Calls   uint64
	Total   time.Duration
	Buckets []uint64 // calls that took at most CallBounds()[i], and longer than the bound before
}

// CallBounds returns the upper bounds of the buckets. Calls that take longer than the last are in no bucket.
func CallBounds() []time.Duration {
	bounds := make([]time.Duration, callBuckets)
	for i := range bounds {
		bounds[i] = callFirst << i
	}
	return bounds
}

// RecordCall counts one call of the plugin below dir. Nothing is counted while nothing is loaded, which is no
// error.
//
// It takes a lock of its own, on the directory of links, for one read and one write. CHECK and a DEL of an
// unknown container take no other lock, and who waits for the node's lock must not wait for this.
func RecordCall(dir string, k CallKey, took time.Duration) (err error) {
	defer spellError(&err)
	command := slices.Index(callCommands[:], k.Command)
	if command < 0 {
		return nil
	}
	d, err := Open(dir)
	if errors.Is(err, ErrNotLoaded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	m, err := d.calls()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callLockTimeout)
	defer cancel()
	held, err := lock.Exclusive(ctx, d.layout.links())
	if err != nil {
		return err
	}
	defer held.Unlock()
	key := bpf.SockmapCallKey{Command: uint32(command), Code: k.Code}
	if k.Withheld {
		key.Withheld = 1
	}
	return addCall(m, key, took)
}

func addCall(m *ebpf.Map, key bpf.SockmapCallKey, took time.Duration) error {
	var sums bpf.SockmapCallSums
	if err := m.Lookup(key, &sums); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("read calls: %w", err)
	}
	sums.Calls++
	sums.Ns += uint64(max(0, took))
	for i, bound := range CallBounds() {
		if took <= bound {
			sums.Buckets[i]++
			break
		}
	}
	if err := m.Put(key, &sums); err != nil {
		return fmt.Errorf("write calls: %w", err)
	}
	return nil
}

func (d *Datapath) calls() (*ebpf.Map, error) {
	return d.mapOf(bpf.SockmapMapCalls, unsafe.Sizeof(bpf.SockmapCallSums{}))
}

// Calls reads what RecordCall has counted since loading.
func (d *Datapath) Calls() (map[CallKey]CallSums, error) {
	m, err := d.calls()
	if err != nil {
		return nil, err
	}
	var (
		key  bpf.SockmapCallKey
		sums bpf.SockmapCallSums
		all  = map[CallKey]CallSums{}
	)
	it := m.Iterate()
	for it.Next(&key, &sums) {
		if int(key.Command) >= len(callCommands) {
			continue // of a later version with the same ABI
		}
		k := CallKey{callCommands[key.Command], key.Code, key.Withheld != 0}
		all[k] = CallSums{sums.Calls, time.Duration(sums.Ns), slices.Clone(sums.Buckets[:])}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list calls: %w", err)
	}
	return all, nil
}
