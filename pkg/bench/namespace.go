// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaces are network namespaces without names. They end with their descriptors and processes. The
// goroutine that uses them is locked to its thread.
type namespaces struct {
	home int
	made []int
}

func openNamespaces() (*namespaces, error) {
	home, err := currentNamespace()
	if err != nil {
		return nil, err
	}
	return &namespaces{home: home}, nil
}

func currentNamespace() (int, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open own network namespace: %w", err)
	}
	return fd, nil
}

// add creates a namespace, and calls setup in it.
func (n *namespaces) add(setup func() error) (ns int, err error) {
	err = n.andBack(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if ns, err = currentNamespace(); err != nil {
			return err
		}
		n.made = append(n.made, ns)
		return setup()
	})
	return ns, err
}

// in calls f in the namespace ns.
func (n *namespaces) in(ns int, f func() error) error {
	return n.andBack(func() error {
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

func (n *namespaces) andBack(f func() error) error {
	err := f()
	if back := unix.Setns(n.home, unix.CLONE_NEWNET); back != nil {
		err = errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	return err
}

func (n *namespaces) close() {
	for _, ns := range append(n.made, n.home) {
		unix.Close(ns)
	}
}

// place is the network namespace and the cgroup of one end.
type place struct {
	namespaces *namespaces
	ns         int
	cgroup     *os.File
}

// Command returns a command that is killed when ctx ends.
func (p place) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

// Start starts cmd in the network namespace and in the cgroup. The kernel kills it when the calling thread
// ends.
func (p place) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(p.cgroup.Fd()),
		Pdeathsig: syscall.SIGKILL}
	return p.namespaces.in(p.ns, cmd.Start)
}
