// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/pin"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// ErrStillRedirected: a kill switch was found and could not be turned, so live flows stay redirected. What is pinned was left
// in place: it is all that leads to them.
var ErrStillRedirected = errors.New("live flows are still redirected")

// switches are config maps, of any ABI, by their ids. A flow that is alive keeps its verdict and so its config map, whatever
// becomes of the pins.
type switches map[ebpf.MapID]*ebpf.Map

func (s switches) close() {
	for _, m := range s {
		m.Close()
	}
}

// off tells whether they all stand so. One that cannot be read does not.
func (s switches) off() bool {
	for _, m := range s {
		value, err := m.LookupBytes(uint32(0))
		if err != nil || binary.NativeEndian.Uint32(value[disabledOffset:]) == 0 {
			return false
		}
	}
	return len(s) > 0
}

// turn turns them all. off tells whether they all stood so before. It looks at what it has done.
func (s switches) turn() (off bool, err error) {
	off = len(s) > 0
	var errs []error
	for id, m := range s {
		was, err := turn(m)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: turn the kill switch in map %d: %w", ErrStillRedirected, id, err))
		}
		off = off && was
	}
	return off, errors.Join(errs...)
}

// turn writes the second word, which is the kill switch of every ABI, and the time that goes with it where the map's own
// types name it: without it a flow whose reader is always behind would wait for ever for the moment to change.
func turn(m *ebpf.Map) (was bool, err error) {
	value, err := m.LookupBytes(uint32(0))
	if err != nil {
		return false, err
	}
	if binary.NativeEndian.Uint32(value[disabledOffset:]) != 0 {
		return true, nil
	}
	binary.NativeEndian.PutUint32(value[disabledOffset:], 1)
	if at := memberOf(m, "disabled_ns"); at > disabledOffset && at+8 <= len(value) {
		binary.NativeEndian.PutUint64(value[at:], coarse())
	}
	if err := m.Put(uint32(0), value); err != nil {
		return false, err
	}
	if value, err = m.LookupBytes(uint32(0)); err != nil {
		return false, err
	}
	if binary.NativeEndian.Uint32(value[disabledOffset:]) == 0 {
		return false, errors.New("it was turned back at once")
	}
	return false, nil
}

// memberOf is the offset of a member of the struct that a map holds, by the types that were loaded with it; 0 where none
// were, or they have no such member.
func memberOf(m *ebpf.Map, member string) int {
	handle, err := m.Handle()
	if err != nil {
		return 0
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		return 0
	}
	var config *btf.Struct
	if err := types.TypeByName(bpf.SockmapMapConfig, &config); err != nil {
		return 0
	}
	for _, each := range config.Members {
		if each.Name == member {
			return int(each.Offset.Bytes())
		}
	}
	return 0
}

// findSwitches finds the kill switches of a state: the config map that is pinned, and with deep what programs, and the links
// and the sockhash that run them, lead to, for programs keep the ids of their maps. It fails only where it has found none.
func findSwitches(l layout, deep bool) (switches, error) {
	found := switches{}
	if abi, _, ok := parseStateName(l.name); ok {
		if m, _, err := rawConfig(l, abi); err == nil {
			found.add(m)
		}
	}
	if !deep {
		return found, nil
	}
	entries, err := os.ReadDir(l.state())
	errs := []error{err}
	for _, e := range entries {
		if e.Type().IsRegular() {
			errs = append(errs, found.follow(l.pin(e.Name())))
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	// Nothing but links may be left. There are as many as cgroups, and all of them run the same few programs.
	errs = append(errs, filepath.WalkDir(l.state(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			err = found.follow(path)
		}
		if len(found) > 0 {
			return filepath.SkipAll
		}
		return err
	}))
	if len(found) > 0 {
		return found, nil
	}
	return found, errors.Join(errs...)
}

// follow adds the config maps that a pin leads to. A pin that leads nowhere adds none.
func (s switches) follow(path string) error {
	object, err := pin.Load(path, nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EACCES) {
		return nil // gone, or nothing of BPF
	}
	if err != nil {
		return err
	}
	defer object.Close()
	switch o := object.(type) {
	case *ebpf.Program:
		return s.followProgram(o)
	case link.Link:
		info, err := o.Info()
		if err != nil {
			return err
		}
		return s.followID(info.Program)
	case *ebpf.Map:
		if o.Type() == ebpf.SockHash {
			return s.followVerdict(o)
		}
	}
	return nil
}

func (s switches) followVerdict(sockets *ebpf.Map) error {
	all, err := link.QueryPrograms(link.QueryOptions{Target: sockets.FD(), Attach: ebpf.AttachSkMsgVerdict})
	if errors.Is(err, link.ErrNotSupported) {
		return nil // before 5.17
	}
	if err != nil {
		return err
	}
	for _, p := range all.Programs {
		if err := s.followID(p.ID); err != nil {
			return err
		}
	}
	return nil
}

func (s switches) followID(id ebpf.ProgramID) error {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	return s.followProgram(p)
}

func (s switches) followProgram(p *ebpf.Program) error {
	maps, err := mapsOf(p)
	if err != nil {
		return err
	}
	defer maps.close()
	if maps.config != nil {
		s.add(maps.config)
		maps.config = nil
	}
	return nil
}

// add takes m over.
func (s switches) add(m *ebpf.Map) {
	id, ok := mapID(m)
	if _, known := s[id]; known || !ok {
		m.Close()
		return
	}
	s[id] = m
}

func mapID(m *ebpf.Map) (ebpf.MapID, bool) {
	info, err := m.Info()
	if err != nil {
		return 0, false
	}
	return info.ID()
}

// programMaps are those of the maps of one of our programs that say what it does. The caller closes them.
type programMaps struct{ config, sockets *ebpf.Map }

func (p *programMaps) close() {
	for _, m := range []*ebpf.Map{p.config, p.sockets} {
		if m != nil {
			m.Close()
		}
	}
}

// mapsOf finds both by their names and shapes, which are the same in every ABI. A program that has only one of them is
// somebody else's, and has none.
func mapsOf(p *ebpf.Program) (found programMaps, err error) {
	info, err := p.Info()
	if err != nil {
		return found, err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			found.close()
			return programMaps{}, err
		}
		about, err := m.Info()
		switch {
		case err == nil && about.Name == bpf.SockmapMapConfig && isConfig(m) && found.config == nil:
			found.config = m
		case err == nil && about.Name == bpf.SockmapMapSockets && m.Type() == ebpf.SockHash && found.sockets == nil:
			found.sockets = m
		default:
			m.Close()
		}
	}
	if found.config == nil || found.sockets == nil {
		found.close()
		return programMaps{}, nil
	}
	return found, nil
}

func isConfig(m *ebpf.Map) bool {
	return m.Type() == ebpf.Array && m.KeySize() == 4 && m.MaxEntries() == 1 && m.ValueSize() >= disabledOffset+4
}
