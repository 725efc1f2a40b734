// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// exchangePins moves the pins of directory from over those of to, and removes pins that are not among the new
// ones, except for the names in keep. Subdirectories stay.
//
// rename(2) over a pin is atomic on bpffs: opening the name returns the old object or the new one. The rename
// releases the old one, so a link that is exchanged in this way leaves no gap: the new one has been attached
// before.
func exchangePins(from, to string, keep func(name string) bool) error {
	fresh, err := pinNames(from)
	if err != nil {
		return err
	}
	for name := range fresh {
		if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return fmt.Errorf("exchange pin: %w", err)
		}
	}
	stale, err := pinNames(to)
	if err != nil {
		return err
	}
	for name := range stale {
		if fresh[name] || keep(name) {
			continue
		}
		if err := os.Remove(filepath.Join(to, name)); err != nil {
			return fmt.Errorf("remove pin: %w", err)
		}
	}
	return nil
}

func pinNames(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		if !e.IsDir() {
			names[e.Name()] = true
		}
	}
	return names, nil
}

// exchangeProgram makes a pinned cgroup link run prog, atomically: every connection meets one of the
// programs. A link whose cgroup is gone is not changed.
//
// The kernel compares with the program that we have seen there, so it is an error if others have replaced it
// meanwhile.
func exchangeProgram(pin string, prog *ebpf.Program) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return fmt.Errorf("open pinned link: %w", err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("ask pinned link %s: %w", pin, err)
	}
	old, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return fmt.Errorf("open program of link %s: %w", pin, err)
	}
	defer old.Close()
	cgroup, ok := l.(interface {
		UpdateArgs(link.RawLinkUpdateOptions) error
	})
	if !ok {
		return &StateError{Path: pin, Found: fmt.Sprintf("a link of type %d", info.Type), Own: "one of a cgroup"}
	}
	err = cgroup.UpdateArgs(link.RawLinkUpdateOptions{New: prog, Old: old, Flags: unix.BPF_F_REPLACE})
	if err != nil && !errors.Is(err, unix.ENOLINK) {
		return fmt.Errorf("exchange program of link %s: %w", pin, err)
	}
	return nil
}
