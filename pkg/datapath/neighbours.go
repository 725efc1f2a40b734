// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// Neighbour is a sock_ops program of others that runs for the sockets of a cgroup, see docs/adr/0017.
type Neighbour struct {
	ID       uint32
	Name     string // the owner's name for it, at most 15 characters; empty: not permitted to read
	CgroupID uint64 // cgroup that it is attached to; 0: not visible from here
	After    bool   // it runs after ours
	Last     bool   // it can clear our callbacks: no program of ours runs after it
	// Sockmap is the name of a sockmap or sockhash that it uses. A socket can be in only one with a verdict
	// program. A program that this process may not inspect counts as having one.
	Sockmap string
}

func (n Neighbour) String() string {
	name := n.Name
	if name == "" {
		name = "(unknown)"
	}
	return fmt.Sprintf("sock_ops program %q (id %d)", name, n.ID)
}

// unknownSockmap is the name if this process may not inspect the program.
const unknownSockmap = "(unknown)"

// NeighbourError: another program keeps a cgroup from being accelerated. It is an ErrNeighbour.
type NeighbourError struct {
	Neighbour
	Why    string // what it does that excludes acceleration
	WayOut string
}

func (e *NeighbourError) Error() string {
	return fmt.Sprintf("%s: %s %s (%s)", ErrNeighbour, e.Neighbour, e.Why, e.WayOut)
}

// Is makes every NeighbourError an ErrNeighbour.
func (e *NeighbourError) Is(target error) bool { return target == ErrNeighbour }

// Neighbours lists the foreign sock_ops programs that run for the sockets of this cgroup, in their order. If
// there is none, it costs one system call.
func (d *Datapath) Neighbours(cgroup *os.File) ([]Neighbour, error) {
	v, err := d.view(cgroup)
	return v.neighbours, err
}

// NeighboursOf is the same without loaded state. dir is the state directory, whose programs are not foreign.
func NeighboursOf(dir string, cgroup *os.File) ([]Neighbour, error) {
	d := open(current(dir))
	defer d.Close()
	return d.Neighbours(cgroup)
}

// view lists the sock_ops programs that run for the sockets of a cgroup.
type view struct {
	neighbours []Neighbour
	last       int    // index of the last neighbour that runs after ours; -1: none
	rearmed    bool   // a rearm program runs after that
	rearmID    uint64 // the cgroup that it is attached to; 0: unknown
	displaced  int    // index of a neighbour that would no longer run if we attached; -1: none
}

func (d *Datapath) view(cgroup *os.File) (view, error) {
	v := view{last: -1, displaced: -1}
	ids, _, err := sockOpsOf(int(cgroup.Fd()), true)
	if err != nil {
		return v, err
	}
	var rearmProgram ebpf.ProgramID
	seen := false // one of ours that takes sockets
	for _, id := range ids {
		p, err := d.known(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return v, err
		}
		switch {
		case p.own && p.Name == bpf.SockmapProgRearm:
			v.rearmed, rearmProgram = v.last >= 0, id
		case p.own:
			seen = true
		default:
			p.Neighbour.After = seen
			if v.neighbours = append(v.neighbours, p.Neighbour); seen {
				v.last, v.rearmed = len(v.neighbours)-1, false
			}
		}
	}
	if len(v.neighbours) == 0 {
		return v, nil
	}
	if v.last >= 0 && !v.rearmed {
		v.neighbours[v.last].Last = true
	}
	return v, v.locate(cgroup, rearmProgram)
}

// locate finds out where the programs are attached.
func (v *view) locate(cgroup *os.File, rearm ebpf.ProgramID) error {
	first := true
	return eachAncestor(cgroup, func(dir *os.File, id uint64) error {
		ids, flags, err := sockOpsOf(int(dir.Fd()), false)
		if err != nil {
			return err
		}
		for i := range v.neighbours {
			n := &v.neighbours[i]
			if !slices.Contains(ids, ebpf.ProgramID(n.ID)) {
				continue
			}
			n.CgroupID = id
			if flags == flagOverride && !first { // without a flag the kernel refuses our program
				v.displaced = i
			}
		}
		if slices.Contains(ids, rearm) {
			v.rearmID = id
		}
		first = false
		return nil
	})
}

// knownProgram caches what is known about a program.
type knownProgram struct {
	Neighbour
	own bool
}

// known queries the kernel once for each program.
func (d *Datapath) known(id ebpf.ProgramID) (knownProgram, error) {
	if p, ok := d.seen[id]; ok {
		return p, nil
	}
	if d.seen == nil {
		d.seen = map[ebpf.ProgramID]knownProgram{}
		if err := d.knowOwn(); err != nil {
			return knownProgram{}, err
		}
		return d.known(id)
	}
	p, err := d.identify(id)
	if errors.Is(err, fs.ErrPermission) {
		p = knownProgram{Neighbour: Neighbour{ID: uint32(id), Sockmap: unknownSockmap}}
		err = nil
	}
	if err == nil {
		d.seen[id] = p
	}
	return p, err
}

// knowOwn adds our pinned programs without queries; on most nodes there are no others. Programs that an
// upgrade has replaced are queried like others.
func (d *Datapath) knowOwn() error {
	for _, name := range []string{bpf.SockmapProgSockOps, bpf.SockmapProgSockOpsAny, bpf.SockmapProgRearm} {
		p, err := d.program(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		id, err := idOf(p)
		if err != nil {
			return err
		}
		d.seen[id] = knownProgram{Neighbour{ID: uint32(id), Name: name}, true}
	}
	return nil
}

func (d *Datapath) identify(id ebpf.ProgramID) (knownProgram, error) {
	p := knownProgram{Neighbour: Neighbour{ID: uint32(id)}}
	own, err := d.ours()
	if err != nil {
		return p, err
	}
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return p, fmt.Errorf("open program %d: %w", id, err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return p, fmt.Errorf("ask program %d: %w", id, err)
	}
	if p.Name, p.own = info.Name, own.uses(info); p.own {
		return p, nil
	}
	maps, _ := info.MapIDs()
	for _, id := range maps {
		name, err := sockmapName(id)
		if err != nil {
			return p, err
		}
		if name != "" {
			p.Sockmap = name
		}
	}
	return p, nil
}

// sockmapName is empty for maps of other types. A map without a name is named by its id.
func sockmapName(id ebpf.MapID) (string, error) {
	m, err := ebpf.NewMapFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open map %d: %w", id, err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return "", fmt.Errorf("ask map %d: %w", id, err)
	}
	if info.Type != ebpf.SockMap && info.Type != ebpf.SockHash {
		return "", nil
	}
	if info.Name == "" {
		return fmt.Sprintf("map %d", id), nil
	}
	return info.Name, nil
}
