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
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// evictFor bounds the wait for calls inside the kernel's redirecting code. Each ends with its message.
const evictFor = time.Second

// Stay is the reason why a socket could not leave the sockhash. Source: enum stays in bpf/abi.h.
type Stay bpf.SockmapStays

// String completes "N sockets ...".
func (s Stay) String() string {
	if int(s) < len(stays) && stays[s] != "" {
		return stays[s]
	}
	return fmt.Sprintf("for reason %d", uint32(s))
}

var stays = [...]string{
	bpf.SockmapStaysSTAYS_NO_PEER: "have not met their other end",
	bpf.SockmapStaysSTAYS_CALL:    "are in a call of their program",
	bpf.SockmapStaysSTAYS_OLD:     "were made by an older version",
	bpf.SockmapStaysSTAYS_UNREAD:  "have redirected bytes unread",
	bpf.SockmapStaysSTAYS_PROBED:  "have their reader probed",
	bpf.SockmapStaysSTAYS_PEER:    "wait for their other end",
}

// Eviction makes live flows plain TCP again. It works without the pins, so an unload can come first.
type Eviction struct {
	prog  *ebpf.Program
	iter  *link.Iter
	paths []string
}

// NewEviction prepares one. It needs an iterator over TCP sockets, and returns ErrNotListed where the kernel
// has none. The caller closes it.
func (d *Datapath) NewEviction() (*Eviction, error) {
	paths, err := d.namespacePaths()
	if err != nil {
		return nil, err
	}
	prog, err := d.loadEvict()
	if err != nil {
		return nil, err
	}
	it, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: attach iterator: %w", ErrNotListed, err), prog.Close())
	}
	return &Eviction{prog, it, paths}, nil
}

// Close releases the iterator and its program.
func (e *Eviction) Close() error { return errors.Join(e.iter.Close(), e.prog.Close()) }

// Run evicts all sockets and returns how many stay, by reason. The kill switch must be on, or new flows enter
// meanwhile. It takes up to two seconds if some stay.
func (e *Eviction) Run() (stay map[Stay]int, err error) {
	// In the first pass all commit to TCP, in the second they leave.
	for end := time.Now().Add(evictFor); ; time.Sleep(evictFor / 50) {
		before := stay
		stay = map[Stay]int{}
		if err := netns.Each(e.paths, func() error { return evictHere(e.iter, stay) }); err != nil {
			return nil, err
		}
		late := time.Since(end)
		if len(stay) == 0 || late > evictFor || late > 0 && maps.Equal(before, stay) {
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
		if why := Stay(binary.NativeEndian.Uint32(all)); why != Stay(bpf.SockmapStaysSTAYS_NOT) {
			stay[why]++
		}
	}
	return nil
}

func (d *Datapath) loadEvict() (prog *ebpf.Program, err error) {
	spec, err := bpf.LoadEvict()
	if err != nil {
		return nil, fmt.Errorf("read embedded programs: %w", err)
	}
	pinned, err := d.allPinnedMaps(spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeMaps(pinned)) }()
	from := source{spec: spec, maps: pinned}
	prog, err = from.loadOne(hook{bpf.EvictProgEvictTcp, "tcp"})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotListed, err)
	}
	return prog, nil
}
