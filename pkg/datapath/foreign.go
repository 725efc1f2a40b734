// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Other is a program or map of others: a program of a type that we use, or a map that can hold sockets.
type Other struct {
	Name string // the owner's name for it, at most 15 characters
	Type string // SockOps, SkMsg, SkSKB, SockMap or SockHash
}

// ours are the ids of maps that any state below a directory has pinned. A program is ours if it uses such a
// map: after an upgrade live sockets keep programs that are not pinned.
type ours map[ebpf.MapID]bool

// Others lists what others have loaded on this node, in the order of loading. A socket in a map of others
// cannot enter ours. It needs CAP_SYS_ADMIN.
func (d *Datapath) Others() ([]Other, error) {
	own, err := d.ours()
	if err != nil {
		return nil, err
	}
	programs, err := own.otherPrograms()
	if err != nil {
		return nil, err
	}
	maps, err := own.otherMaps()
	return append(programs, maps...), err
}

func (d *Datapath) ours() (own ours, err error) {
	defer spellError(&err)
	own = ours{}
	for _, name := range []string{bpf.SockmapMapSockets, bpf.SockmapMapConfig, bpf.SockmapMapStates} {
		pins, err := filepath.Glob(filepath.Join(d.layout.dir, "*", name))
		if err != nil {
			return nil, err
		}
		for _, pin := range pins {
			m, err := ebpf.LoadPinnedMap(pin, nil)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("open pinned map %s: %w", pin, err)
			}
			info, err := m.Info()
			m.Close()
			if err != nil {
				return nil, fmt.Errorf("ask map %s: %w", pin, err)
			}
			if id, ok := info.ID(); ok {
				own[id] = true
			}
		}
	}
	return own, nil
}

func (own ours) otherPrograms() (all []Other, err error) {
	for id := ebpf.ProgramID(0); ; {
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, fs.ErrNotExist) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("list programs: %w", err)
		}
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("open program %d: %w", id, err)
		}
		info, err := p.Info()
		p.Close()
		if err != nil {
			return nil, fmt.Errorf("ask program %d: %w", id, err)
		}
		if t := info.Type; (t == ebpf.SockOps || t == ebpf.SkMsg || t == ebpf.SkSKB) && !own.uses(info) {
			all = append(all, Other{info.Name, t.String()})
		}
	}
}

func (own ours) uses(info *ebpf.ProgramInfo) bool {
	ids, _ := info.MapIDs()
	for _, id := range ids {
		if own[id] {
			return true
		}
	}
	return false
}

func (own ours) otherMaps() (all []Other, err error) {
	for id := ebpf.MapID(0); ; {
		if id, err = ebpf.MapGetNextID(id); errors.Is(err, fs.ErrNotExist) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("list maps: %w", err)
		}
		if own[id] {
			continue
		}
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open map %d: %w", id, err)
		}
		info, err := m.Info()
		m.Close()
		if err != nil {
			return nil, fmt.Errorf("ask map %d: %w", id, err)
		}
		if info.Type == ebpf.SockMap || info.Type == ebpf.SockHash {
			all = append(all, Other{info.Name, info.Type.String()})
		}
	}
}
