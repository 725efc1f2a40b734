// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// entriesPerCPU is twice what a CPU can hoard of an LRU map: before Linux 6.16 each keeps up to 128 free
// entries to itself, so a map with fewer than that for each CPU evicts entries that are in use while most of
// its room is free.
const entriesPerCPU = 256

// lruMaps are those of which an entry that is evicted is missed.
var lruMaps = [...]string{bpf.SockmapMapFlows, bpf.SockmapMapAvoid, bpf.SockmapMapHistory, bpf.SockmapMapResets, bpf.SockmapMapAnswers, bpf.SockmapMapSplicing}

// lruEntries is how many entries an LRU map needs to have room for wanted.
func lruEntries(wanted uint32, possibleCPUs int) uint32 {
	return max(wanted, entriesPerCPU*uint32(possibleCPUs))
}

// ringBytes is the size of a ring that holds as much as is wanted: the kernel takes powers of two only, and
// whole pages. A page, of 4 to 64 KiB, is a power of two.
func ringBytes(wanted, page int) uint32 {
	size := uint32(page)
	for int(size) < wanted {
		size <<= 1
	}
	return size
}

// sizeRing makes a ring of a size that this kernel takes, whatever the pages were of the machine for which the
// programs were written. m may be of any type.
func sizeRing(m *ebpf.MapSpec, page int) {
	if m != nil && m.Type == ebpf.RingBuf {
		m.MaxEntries = ringBytes(int(m.MaxEntries), page)
	}
}

// size sets the sizes of maps that are about to be made. Those that are pinned already keep theirs.
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
