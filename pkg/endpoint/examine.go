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

// Examine loads the programs privately with the settings s, probes for hazards, and removes everything again.
// s.Probe is not used. It needs no loaded state, takes no lock and does not touch loaded state. The process
// must have called probe.Main first.
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

// LoadPrivately loads the programs with the settings s where no other process sees them, calls f, and removes
// everything again. It takes no lock and does not touch loaded state.
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

// inPrivateDir calls f with a state directory that no other process sees, and removes everything that was
// pinned there.
func inPrivateDir(f func(dir string) error) (err error) {
	fs, err := privateBPFFS()
	if err != nil {
		return err
	}
	// Closing removes the pins: the file system is not mounted anywhere, so nothing remains even if the
	// process is killed.
	defer func() { err = errors.Join(err, fs.Close()) }()
	dir := fmt.Sprintf("/proc/self/fd/%d/sockmap", fs.Fd())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make private state directory: %w", err)
	}
	return f(dir)
}

// privateBPFFS creates a bpffs that is not mounted anywhere. It exists until the descriptor is closed.
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
