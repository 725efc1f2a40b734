// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

func TestLRUMapsHaveRoomForTheFreeListsOfAllCPUs(t *testing.T) {
	for _, tt := range []struct {
		wanted uint32
		cpus   int
		want   uint32
	}{
		{1, 1, 256}, {1000, 2, 1000}, {512, 2, 512}, {1000, 64, 16384}, {65536, 128, 65536}, {65536, 512, 131072},
		{4 << 20, 8192, 4 << 20},
	} {
		if got := lruEntries(tt.wanted, tt.cpus); got != tt.want {
			t.Errorf("%d wanted on %d CPUs: got %d entries, want %d", tt.wanted, tt.cpus, got, tt.want)
		}
	}
}

func TestEveryLRUMapIsSized(t *testing.T) {
	spec, err := bpf.LoadSockmap()
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

func TestRingSizesAreWholePages(t *testing.T) {
	for _, tt := range []struct {
		wanted, page int
		want         uint32
	}{
		{1, 4096, 4096}, {4096, 4096, 4096}, {4097, 4096, 8192}, {4096, 16384, 16384}, {65536, 16384, 65536},
		{4096, 65536, 65536}, {100_000, 65536, 131_072},
	} {
		if got := ringBytes(tt.wanted, tt.page); got != tt.want {
			t.Errorf("%d bytes wanted of pages of %d: got %d, want %d", tt.wanted, tt.page, got, tt.want)
		}
	}
}

// The smallest ring that there is is one page, and a page has up to 64 KiB.
func TestEveryRingIsSized(t *testing.T) {
	spec, err := bpf.LoadSockmap()
	if err != nil {
		t.Fatal(err)
	}
	page, rings := 64<<10, 0
	for name, m := range spec.Maps {
		for _, ring := range []*ebpf.MapSpec{m, m.InnerMap} {
			if ring == nil || ring.Type != ebpf.RingBuf {
				continue
			}
			rings++
			if sizeRing(ring, page); ring.MaxEntries%uint32(page) != 0 {
				t.Errorf("%s is a ring of %d bytes: no whole page of %d", name, ring.MaxEntries, page)
			}
			ring.MaxEntries = 1
		}
	}
	if rings == 0 {
		t.Fatal("there is no ring")
	}
	if err := size(spec); err != nil {
		t.Fatal(err)
	}
	if got := spec.Maps[bpf.SockmapMapTapRing].InnerMap.MaxEntries; got != uint32(os.Getpagesize()) {
		t.Errorf("the pattern of the tap's ring has %d bytes, want a page, %d", got, os.Getpagesize())
	}
}
