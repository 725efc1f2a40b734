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

// ErrStillRedirected: a kill switch was found and could not be turned on, so live flows stay redirected. The
// pins were left in place, because nothing else leads to these flows.
var ErrStillRedirected = errors.New("live flows are still redirected")

// switches are config maps of any ABI, by their ids. A live flow keeps its verdict and so its config map,
// with or without pins.
type switches map[ebpf.MapID]*ebpf.Map

func (s switches) close() {
	for _, m := range s {
		m.Close()
	}
}

// off reports whether all kill switches are on. One that cannot be read counts as not on.
func (s switches) off() bool {
	for _, m := range s {
		value, err := m.LookupBytes(uint32(0))
		if err != nil || binary.NativeEndian.Uint32(value[disabledOffset:]) == 0 {
			return false
		}
	}
	return len(s) > 0
}

// turn turns all kill switches on, and verifies that. off reports whether all were on before.
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

// turn sets the second word, which is the kill switch in every ABI, and disabled_ns if the map's BTF has it:
// without the time, a flow whose reader is always behind would never change to TCP.
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

// memberOf returns the offset of a member of a map's value, by the map's BTF; 0 if there is no BTF or no such
// member.
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

// findSwitches finds the kill switches of a state: the pinned config map, and with deep also those of its
// programs, which the links and the sockhash lead to. It fails only if it has found none.
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
	// Perhaps only links are left. There is one for each cgroup, and all run the same few programs.
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

// follow adds the config maps that a pin leads to, if any.
func (s switches) follow(path string) error {
	object, err := pin.Load(path, nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EACCES) {
		return nil // gone, or no BPF object
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

// add takes ownership of m.
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

// programMaps are the config map and the sockhash of one of our programs. The caller closes them.
type programMaps struct{ config, sockets *ebpf.Map }

func (p *programMaps) close() {
	for _, m := range []*ebpf.Map{p.config, p.sockets} {
		if m != nil {
			m.Close()
		}
	}
}

// mapsOf finds both by their names and shapes, which are the same in every ABI. A program with only one of
// them is not ours, and gets none.
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
