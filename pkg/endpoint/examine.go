// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"golang.org/x/sys/unix"
)

// Examination is what a first load would find on this kernel now.
type Examination struct {
	Findings hazard.Findings
	Guards   []datapath.GuardState
}

// Examine loads privately with s, but for its probe, looks for hazards, and takes all of it away again. It needs no
// loaded state, takes no lock and touches nothing that is loaded. The process must have begun with probe.Main.
func Examine(ctx context.Context, s datapath.Settings) (found Examination, err error) {
	s.Probe = func(attach func(*os.File) (io.Closer, error), names ...string) (uint32, uint32, error) {
		f, err := probe.Run(ctx, attach, names...)
		found.Findings = f.After(found.Findings)
		present, guarded := f.Sets()
		return uint32(present), uint32(guarded), err
	}
	err = inPrivateDir(func(dir string) error {
		d, err := datapath.Load(dir, s)
		if err != nil {
			return err
		}
		defer d.Close()
		found.Guards, err = d.GuardStates()
		return err
	})
	return found, err
}

// LoadPrivately loads with s where nobody else sees it, calls f, and takes all of it away again. It takes no lock and touches
// nothing that is loaded.
func LoadPrivately(s datapath.Settings, f func(*datapath.Datapath) error) error {
	return inPrivateDir(func(dir string) error {
		d, err := datapath.Load(dir, s)
		if err != nil {
			return err
		}
		defer d.Close()
		return f(d)
	})
}

// inPrivateDir calls f with a state directory that nobody else sees, and takes all that is pinned there away.
func inPrivateDir(f func(dir string) error) (err error) {
	fs, err := privateBPFFS()
	if err != nil {
		return err
	}
	// Closing is what removes the pins: the mount has no place in the file tree, so not even a killed process leaves it.
	defer func() { err = errors.Join(err, fs.Close()) }()
	dir := fmt.Sprintf("/proc/self/fd/%d/sockmap", fs.Fd())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make private state directory: %w", err)
	}
	return f(dir)
}

// privateBPFFS makes a bpffs that is mounted nowhere. It goes with the descriptor.
func privateBPFFS() (*os.File, error) {
	making, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make private bpffs: %w", err)
	}
	defer unix.Close(making)
	if err := unix.FsconfigCreate(making); err != nil {
		return nil, fmt.Errorf("make private bpffs: %w", err)
	}
	fd, err := unix.Fsmount(making, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make private bpffs: %w", err)
	}
	return os.NewFile(uintptr(fd), "bpffs"), nil
}
