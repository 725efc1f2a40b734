// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// shapes are the pinned maps of ABI 3: type, bytes of a key and of a value, flags. Another version of the
// same ABI uses the maps that it finds, together with programs that still run. A change of a line here needs
// a new ABI and a Conversion. A new map gets a line of its own and needs neither.
const shapes = `
answers     LRUHash        8    16    0
attachments Hash          32  1440    1
avoid       LRUHash       16    16    0
calls       Hash          12   128    1
config      Array          4   272    0
endpoints   Hash           8   160    1
events      PerCPUArray    4     8    0
flows       LRUHash        8    56    0
history     LRUHash       32    16    0
keepalives  SkStorage      4    16    1
resets      LRUHash        8     4    0
shares      Hash           8    32    1
sockets     SockHash       8     8    0
splicing    LRUHash        8     4    0
states      SkStorage      4   120    1
tap_drops   PerCPUArray    4    16    0
tap_ring    ArrayOfMaps    4     4    0
totals      PerCPUHash     8   832    1
`

func TestShapesOfPinnedMapsAreThoseOfTheABI(t *testing.T) {
	if ABI != 3 {
		t.Fatalf("shapes are of ABI 3, this is ABI %d", ABI)
	}
	spec, err := bpf.LoadSockmap()
	if err != nil {
		t.Fatal(err)
	}
	pinned := (&loaded{}).maps()
	var got []string
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		if _, ok := pinned[name]; !ok {
			continue
		}
		m := spec.Maps[name]
		got = append(got, fmt.Sprintf("%-11s %-11s %4d %5d %4d", name, m.Type, m.KeySize, m.ValueSize, m.Flags))
	}
	want := strings.Split(strings.TrimSpace(shapes), "\n")
	if !slices.Equal(got, want) {
		t.Errorf("the maps are\n%s\nand those of ABI %d\n%s", strings.Join(got, "\n"), ABI,
			strings.Join(want, "\n"))
	}
	if len(got) != len(pinned) {
		t.Errorf("%d maps are pinned, %d of them are made by the programs", len(pinned), len(got))
	}
}

// Events are an array, so their room is its length.
func TestArraysHaveTheRoomOfTheABI(t *testing.T) {
	spec, err := bpf.LoadSockmap()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{bpf.SockmapMapEvents: 32, bpf.SockmapMapConfig: 1,
		bpf.SockmapMapTapDrops: 1, bpf.SockmapMapTapRing: 1} {
		if got := spec.Maps[name].MaxEntries; got != want {
			t.Errorf("%s has %d entries, that of ABI %d has %d", name, got, ABI, want)
		}
	}
}
