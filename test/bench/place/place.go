// SPDX-License-Identifier: Apache-2.0

// Package place makes what a measurement without a lab needs of the machine: cgroups, a state directory, and
// this program again, in a cgroup and in a network namespace of its own.
package place

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Place is what one run has made of the machine. The zero Place has made nothing.
type Place struct{ undo []func() error }

// Later has f called by Close, before what was given to Later earlier.
func (p *Place) Later(f func() error) { p.undo = append(p.undo, f) }

// Close undoes everything. It continues after errors and joins them.
func (p *Place) Close() error {
	var errs []error
	for i := len(p.undo) - 1; i >= 0; i-- {
		errs = append(errs, p.undo[i]())
	}
	return errors.Join(errs...)
}

// Cgroup makes a cgroup below parent. name is the beginning of its name.
func (p *Place) Cgroup(parent, name string) (path string, err error) {
	path, err = os.MkdirTemp(parent, name)
	if err != nil {
		return "", fmt.Errorf("make cgroup: %w", err)
	}
	p.Later(func() (err error) {
		for range 100 { // the last process has just ended
			if err = os.Remove(path); err == nil {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
		return err
	})
	return path, nil
}

// StateDir makes a state directory on a bpffs of its own. name is the beginning of the mount point's name.
func (p *Place) StateDir(name string) (path string, err error) {
	mount, err := os.MkdirTemp("", name)
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	p.Later(func() error { return os.Remove(mount) })
	if err := unix.Mount("bench", mount, "bpf", 0, ""); err != nil {
		return "", fmt.Errorf("mount bpffs: %w", err)
	}
	p.Later(func() error { return unix.Unmount(mount, unix.MNT_DETACH) })
	path = filepath.Join(mount, "sockmap")
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	return path, nil
}

// Child returns this program as a process that has not been started, in the cgroup and in its own network
// namespace, with nothing but env in its environment. It is killed when its parent ends.
func Child(cgroup *os.File, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(cgroup.Fd()), Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL,
	}
	return cmd
}
