// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// Link is one pinned cgroup link.
type Link struct {
	LinkKey
	// Alive is false when the cgroup is gone: the kernel has detached the link and only the pin is left.
	Alive bool
}

// Attach makes sure that the cgroup, whose id is in key, has its link. It reports whether it made one.
//
// It returns ErrTooManyPrograms or ErrExclusiveProgram where only the operator can help.
func (d *Datapath) Attach(cgroup *os.File, key LinkKey) (made bool, err error) {
	return d.attachWith(cgroup, key, func() (*ebpf.Program, func() error, error) {
		name := bpf.SockmapProgSockOps
		if key.Manual {
			name = bpf.SockmapProgSockOpsAny
		}
		prog, err := d.program(name)
		return prog, func() error { return nil }, err
	})
}

// attachWith is Attach with a program that program returns. It is called only if the link must be made; its
// result is closed afterwards.
func (d *Datapath) attachWith(
	cgroup *os.File, key LinkKey, program func() (*ebpf.Program, func() error, error),
) (made bool, err error) {
	// First, also if the cgroup has its link: a version that does not know resting guards may have made it.
	if err := d.wakeGuards(); err != nil {
		return false, err
	}
	alive, err := d.linkAlive(key)
	if alive || err != nil {
		return false, err
	}
	if err := d.Detach(key); err != nil {
		return false, err
	}
	prog, closes, err := program()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, closes()) }()
	// The guard first: after a kill in between, the link is missing, whose presence means that all is there.
	err = d.attachOptionsGuard(cgroup, key)
	if err == nil {
		err = d.attachProgram(cgroup, prog, ebpf.AttachCGroupSockOps, d.layout.link(key))
	}
	if err != nil {
		return false, errors.Join(err, d.Detach(key))
	}
	return true, nil
}

// attachOptionsGuard attaches the guard beside sock_ops, if this kernel accepted it at load. A cgroup without
// a free slot does without: the verdict then passes such sockets' messages to TCP.
func (d *Datapath) attachOptionsGuard(cgroup *os.File, key LinkKey) error {
	if !exists(d.layout.pin(bpf.GuardProgRefuseOption)) {
		return nil
	}
	for _, g := range cgroupGuards {
		pin := d.layout.link(key) + g.suffix
		if exists(pin) {
			continue
		}
		err := d.attach(cgroup, g.program, g.attach, pin)
		if err != nil && !errors.Is(err, ErrTooManyPrograms) && !errors.Is(err, ErrExclusiveProgram) {
			return err
		}
	}
	return nil
}

func (d *Datapath) attach(cgroup *os.File, program string, at ebpf.AttachType, pin string) (err error) {
	prog, err := d.program(program)
	if err != nil {
		return err
	}
	return d.attachProgram(cgroup, prog, at, pin)
}

func (d *Datapath) attachProgram(
	cgroup *os.File, prog *ebpf.Program, at ebpf.AttachType, pin string,
) (err error) {
	defer spellError(&err)
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: int(cgroup.Fd()), Program: prog, Attach: at})
	if err != nil {
		return fmt.Errorf("attach %s to cgroup %s: %w", filepath.Base(pin), cgroup.Name(), explainAttach(err))
	}
	defer l.Close()
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin link of cgroup %s: %w", cgroup.Name(), err)
	}
	return nil
}

func explainAttach(err error) error {
	switch {
	case errors.Is(err, unix.E2BIG):
		return fmt.Errorf("%w: %w (see: bpftool cgroup show)", ErrTooManyPrograms, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w (attach that one with BPF_F_ALLOW_MULTI; see: bpftool cgroup tree)",
			ErrExclusiveProgram, err)
	}
	return err
}

// Detach removes a link's pin and with it the link. One that is not there is not an error.
func (d *Datapath) Detach(key LinkKey) (err error) {
	defer spellError(&err)
	// In the opposite order of Attach, for the same reason. If only its pin were removed, a link would run
	// for a moment longer. Connections would still enter the sockhash, perhaps after the guards began to
	// rest.
	_ = detachNow(d.layout.link(key)) // a pin that is not ours or cannot be detached is removed, too
	pins := []string{d.layout.link(key)}
	for _, g := range cgroupGuards {
		pins = append(pins, d.layout.link(key)+g.suffix)
	}
	for _, pin := range pins {
		if err := removeIfThere(pin); err != nil {
			return fmt.Errorf("remove link pin: %w", err)
		}
	}
	return nil
}

// LinkKeys lists the pinned links without opening them: one directory, where Links costs some system calls
// for each. A link of which a killed Detach left only the guard counts, too, so that it gets removed.
func (d *Datapath) LinkKeys() (keys []LinkKey, err error) {
	defer spellError(&err)
	entries, err := os.ReadDir(d.layout.links())
	if err != nil {
		return nil, fmt.Errorf("read link pins: %w", err)
	}
	keys = make([]LinkKey, 0, len(entries))
	for _, e := range entries {
		name := e.Name()
		if _, ok := parseRearm(name); ok {
			continue
		}
		for _, g := range cgroupGuards {
			name = strings.TrimSuffix(name, g.suffix)
		}
		key, err := parseLinkKey(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Links lists the pinned links.
func (d *Datapath) Links() ([]Link, error) {
	keys, err := d.LinkKeys()
	if err != nil {
		return nil, err
	}
	links := make([]Link, 0, len(keys))
	for _, key := range keys {
		alive, err := d.linkAlive(key)
		if err != nil {
			return nil, err
		}
		links = append(links, Link{key, alive})
	}
	return links, nil
}

// LinkAlive reports whether the cgroup has its link and still exists.
func (d *Datapath) LinkAlive(key LinkKey) (bool, error) { return d.linkAlive(key) }

func (d *Datapath) linkAlive(key LinkKey) (alive bool, err error) {
	defer spellError(&err)
	l, err := link.LoadPinnedLink(d.layout.link(key), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", key, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("ask pinned link %s: %w", key, err)
	}
	cgroup := info.Cgroup()
	return cgroup != nil && cgroup.CgroupId == key.CgroupID, nil
}
