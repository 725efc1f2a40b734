// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/loopback"
	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"golang.org/x/sys/unix"
)

// mounts are the mounts of a systemd host with cgroup v2, in the order in which they must be made.
var mounts = []struct{ kind, target, data string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"devpts", "/dev/pts", "ptmxmode=0666"},
	{"tmpfs", "/dev/shm", ""},
	{"tmpfs", "/run", "mode=0755"},
	{"tmpfs", "/tmp", ""},
	{"tmpfs", frame.OutRoot, ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
	{"bpf", "/sys/fs/bpf", "mode=0700"},
	{"debugfs", "/sys/kernel/debug", ""},
	{"tracefs", "/sys/kernel/tracing", ""},
	{"securityfs", "/sys/kernel/security", ""},
}

func mountAll() error {
	var errs []error
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		// The kernel may have mounted devtmpfs itself.
		if err := unix.Mount(m.kind, m.target, m.kind, 0, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mount %s at %s: %w", m.kind, m.target, err))
		}
	}
	// Shared, as systemd makes it: a test that forgets to make its mounts private must fail here, too.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		errs = append(errs, fmt.Errorf("share mounts: %w", err))
	}
	return errors.Join(errs...)
}

// configure does what a host's start-up scripts do, as far as tests rely on it.
func configure() error {
	// 524288 is systemd's value. The kernel's own 4096 is too low for tests with many connections.
	limit := unix.Rlimit{Cur: 1024, Max: 524288}
	var errs []error
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		errs = append(errs, fmt.Errorf("set limit of open files: %w", err))
	}
	for path, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2",
	} {
		if err := os.Symlink(target, path); err != nil && !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, loopback.Up(), unix.Sethostname([]byte("guest")))
	return errors.Join(errs...)
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("load module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", path, err)
	}
	return nil
}
