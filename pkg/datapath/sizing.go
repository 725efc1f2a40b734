// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// entriesPerCPU is twice what a CPU can reserve of an LRU map: before Linux 6.16 each CPU keeps up to 128
// free entries, so a map with fewer entries for each CPU evicts used entries while most are free.
const entriesPerCPU = 256

// lruMaps are the LRU maps in which an evicted entry has a cost.
var lruMaps = [...]string{
	bpf.SockmapMapFlows, bpf.SockmapMapAvoid, bpf.SockmapMapHistory,
	bpf.SockmapMapResets, bpf.SockmapMapAnswers, bpf.SockmapMapSplicing,
}

// lruEntries is how many entries an LRU map needs to have room for wanted.
func lruEntries(wanted uint32, possibleCPUs int) uint32 {
	return max(wanted, entriesPerCPU*uint32(possibleCPUs))
}

// ringBytes rounds the size of a ring up: the kernel accepts powers of two only, and whole pages. A page, of
// 4 to 64 KiB, is a power of two.
func ringBytes(wanted, page int) uint32 {
	size := uint32(page)
	for int(size) < wanted {
		size <<= 1
	}
	return size
}

// sizeRing rounds the size of a ring up to one that this kernel accepts, whose pages may be larger. m may be
// of any type.
func sizeRing(m *ebpf.MapSpec, page int) {
	if m != nil && m.Type == ebpf.RingBuf {
		m.MaxEntries = ringBytes(int(m.MaxEntries), page)
	}
}

// size sets the sizes of new maps. Pinned ones keep theirs.
func size(spec *ebpf.CollectionSpec) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	for _, name := range lruMaps {
		m := spec.Maps[name]
		m.MaxEntries = lruEntries(m.MaxEntries, cpus)
	}
	for _, m := range spec.Maps {
		sizeRing(m, os.Getpagesize())
		sizeRing(m.InnerMap, os.Getpagesize())
	}
	return nil
}
