// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// evictFor is how long calls that are inside the redirecting part of the kernel are waited for: they end with the message
// that they are about.
const evictFor = time.Second

// Stay is why a socket stays in the sockhash although it is to leave. Source: enum stays in bpf/oath.h.
type Stay = evictStays

// Evict makes live flows plain TCP again, and tells how many sockets stay, by why they do. The kill switch is on by then:
// otherwise new flows come meanwhile. It waits a second at most. It needs an iterator over TCP sockets, and returns
// ErrNotListed where the kernel has none.
func (d *Datapath) Evict() (stay map[Stay]int, err error) {
	prog, err := d.loadEvict()
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	it, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		return nil, fmt.Errorf("%w: attach iterator: %w", ErrNotListed, err)
	}
	defer it.Close()
	paths, err := d.namespacePaths()
	if err != nil {
		return nil, err
	}
	// The first pass makes all swear, the second lets them go.
	for end := time.Now().Add(evictFor); ; time.Sleep(evictFor / 50) {
		before := stay
		stay = map[Stay]int{}
		if err := netns.Each(paths, func() error { return evictHere(it, stay) }); err != nil {
			return nil, err
		}
		if len(stay) == 0 || (before != nil && maps.Equal(before, stay) && time.Now().After(end)) {
			return stay, nil
		}
		if time.Now().After(end.Add(evictFor)) {
			return stay, nil
		}
	}
}

func evictHere(it *link.Iter, stay map[Stay]int) error {
	r, err := it.Open()
	if err != nil {
		return fmt.Errorf("open iterator: %w", err)
	}
	defer r.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("evict: %w", err)
	}
	for ; len(all) >= 4; all = all[4:] {
		if why := Stay(binary.NativeEndian.Uint32(all)); why != evictStaysSTAYS_NOT {
			stay[why]++
		}
	}
	return nil
}

func (d *Datapath) loadEvict() (prog *ebpf.Program, err error) {
	spec, err := loadEvict()
	if err != nil {
		return nil, fmt.Errorf("read embedded programs: %w", err)
	}
	from := source{spec: spec, maps: map[string]*ebpf.Map{}}
	defer func() {
		for _, m := range from.maps {
			err = errors.Join(err, m.Close())
		}
	}()
	for name := range spec.Maps {
		if _, ours := from.maps[name]; ours || name[0] == '.' {
			continue
		}
		if from.maps[name], err = ebpf.LoadPinnedMap(d.layout.pin(name), nil); err != nil {
			delete(from.maps, name)
			return nil, fmt.Errorf("open pinned map: %w", err)
		}
	}
	prog, err = from.loadOne(hook{evictProgEvictTcp, "tcp"})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotListed, err)
	}
	return prog, nil
}
