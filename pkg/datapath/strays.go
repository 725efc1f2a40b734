// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Stray is a config map whose flows are still redirected, though no pin on this node leads to it: its bpffs
// was unmounted, its mount namespace ended, or its pins were removed by somebody. Its flows end with their
// connections.
type Stray struct {
	Config  ebpf.MapID
	ABI     uint32
	Sockets int // that may redirect

	// UsedBy names a process that has the config map open. Then it is no stray but a private load, such as of
	// a benchmark or a probe, whose flows end with it. Empty: none is known.
	UsedBy string

	// Sure: no pin and no process leads to the flows. To know that, one must see all processes of the kernel
	// (first PID and user namespace, CAP_SYS_ADMIN and CAP_SYS_PTRACE), the bpffs of all their mount
	// namespaces, and everything that they have open. Pins that cannot be seen, from a container for example,
	// may belong to another node on the same kernel.
	Sure bool
}

// strayFor is how long a config map must be unpinned to count as a stray. A load in progress has sockets but
// no pins yet.
const strayFor = time.Second

// FindStrays finds strays by the kernel's list of programs. It waits a moment if there may be any. Pins are
// looked for in every mount namespace that /proc shows. Private loads are among them, see Stray.UsedBy. It
// needs CAP_SYS_ADMIN.
func FindStrays() ([]Stray, error) {
	first, _, err := unpinned()
	if err != nil || len(first) == 0 {
		return nil, err
	}
	time.Sleep(strayFor)
	second, hidden, err := unpinned()
	if err != nil {
		return nil, err
	}
	both := slices.DeleteFunc(second, func(s Stray) bool {
		return !slices.ContainsFunc(first, func(earlier Stray) bool { return s.Config == earlier.Config })
	})
	return both, judge(both, !hidden && seesAllProcesses())
}

// judge sets UsedBy and Sure. seen: no pin can have been missed.
func judge(all []Stray, seen bool) error {
	if len(all) == 0 {
		return nil
	}
	var ids []ebpf.MapID
	for _, s := range all {
		ids = append(ids, s.Config)
	}
	users, complete, err := holders(ids)
	if err != nil {
		return fmt.Errorf("look for processes that use flows: %w", err)
	}
	for i := range all {
		s := &all[i]
		s.UsedBy = users[s.Config]
		s.Sure = seen && complete && s.UsedBy == ""
	}
	return nil
}

// SwitchOff turns the kill switch of a stray on, so that its flows fall back to TCP, and verifies that.
func (s Stray) SwitchOff() error {
	m, err := ebpf.NewMapFromID(s.Config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its last flow has ended
	}
	if err != nil {
		return fmt.Errorf("open map %d: %w", s.Config, err)
	}
	defer m.Close()
	if _, err := turn(m); err != nil {
		return fmt.Errorf("%w: turn the kill switch in map %d: %w", ErrStillRedirected, s.Config, err)
	}
	return nil
}

// unpinned returns the config maps without a pin. hidden: there may be pins that cannot be seen.
func unpinned() (found []Stray, hidden bool, err error) {
	all, err := running()
	if err != nil || len(all) == 0 {
		return nil, false, err
	}
	pinned, err := findPins()
	if err != nil {
		return nil, false, err
	}
	for _, r := range all {
		if len(pinned.dirs[r.Config]) == 0 {
			found = append(found, r)
		}
	}
	return found, pinned.hidden, nil
}

// mostABI is more than any version will have. Maps of others may have the same names and another first word.
const mostABI = 1000

// running returns all config maps, pinned or not, whose flows may redirect and whose sockhash has sockets.
// Live sockets keep their verdict, so each map is found through its program.
func running() (all []Stray, err error) {
	seen := map[ebpf.MapID]bool{}
	err = eachVerdict(func(maps programMaps) error {
		id, ok := mapID(maps.config)
		if !ok || seen[id] {
			return nil
		}
		seen[id] = true
		value, err := maps.config.LookupBytes(uint32(0))
		if err != nil || binary.NativeEndian.Uint32(value[disabledOffset:]) != 0 {
			return err
		}
		n, err := countKeys(maps.sockets, 1<<20)
		abi := binary.NativeEndian.Uint32(value[abiOffset:])
		if err == nil && n > 0 && abi > 0 && abi <= mostABI {
			all = append(all, Stray{Config: id, ABI: abi, Sockets: n})
		}
		return err
	})
	return all, err
}

// eachVerdict calls f with the maps of each loaded verdict, pinned or not.
func eachVerdict(f func(maps programMaps) error) error {
	for id := ebpf.ProgramID(0); ; {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("list programs: %w", err)
		}
		if err := verdictOf(id, f); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may go at any moment
			return fmt.Errorf("ask program %d: %w", id, err)
		}
	}
}

func verdictOf(id ebpf.ProgramID, f func(maps programMaps) error) error {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Type != ebpf.SkMsg || info.Name != bpf.SockmapProgVerdict {
		return err
	}
	maps, err := mapsOf(p)
	if err != nil || maps.config == nil {
		return err
	}
	defer maps.close()
	return f(maps)
}
