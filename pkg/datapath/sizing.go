// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// entriesPerCPU is twice what a CPU can hoard of an LRU map: before Linux 6.16 each keeps up to 128 free
// entries to itself, so a map with fewer than that for each CPU evicts entries that are in use while most of
// its room is free.
const entriesPerCPU = 256

// lruMaps are those of which an entry that is evicted is missed.
var lruMaps = [...]string{bpfMapFlows, bpfMapAvoid, bpfMapHistory, bpfMapResets, bpfMapAnswers, bpfMapSplicing}

// lruEntries is how many entries an LRU map needs to have room for wanted.
func lruEntries(wanted uint32, possibleCPUs int) uint32 {
	return max(wanted, entriesPerCPU*uint32(possibleCPUs))
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
	return nil
}
