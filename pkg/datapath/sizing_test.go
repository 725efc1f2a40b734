// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/cilium/ebpf"
)

func TestLRUMapsHaveRoomForWhatEachCPUHoards(t *testing.T) {
	for _, tt := range []struct {
		wanted uint32
		cpus   int
		want   uint32
	}{
		{1, 1, 256}, {1000, 2, 1000}, {512, 2, 512}, {1000, 64, 16384}, {65536, 128, 65536}, {65536, 512, 131072}, {4 << 20, 8192, 4 << 20},
	} {
		if got := lruEntries(tt.wanted, tt.cpus); got != tt.want {
			t.Errorf("%d wanted on %d CPUs: got %d entries, want %d", tt.wanted, tt.cpus, got, tt.want)
		}
	}
}

func TestEveryLRUMapIsSized(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range spec.Maps {
		m.MaxEntries = 1
	}
	if err := size(spec); err != nil {
		t.Fatal(err)
	}
	least := uint32(entriesPerCPU * ebpf.MustPossibleCPU())
	for name, m := range spec.Maps {
		if lru := m.Type == ebpf.LRUHash; lru && m.MaxEntries != least || !lru && m.MaxEntries != 1 {
			t.Errorf("%s, a %s, has %d entries", name, m.Type, m.MaxEntries)
		}
	}
}
