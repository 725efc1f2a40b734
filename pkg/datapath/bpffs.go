// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"golang.org/x/sys/unix"
)

// EnsureDir makes the state directory dir (mode 0700: whoever can open it can take its lock), mounting bpffs at its
// parent when nothing is mounted there and the parent is the customary /sys/fs/bpf. It returns ErrNoBPFFS with the
// way out otherwise.
func EnsureDir(ctx context.Context, dir string) error {
	parent := filepath.Dir(dir)
	if err := ensureBPFFS(ctx, parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make state directory: %w", err)
	}
	return nil
}

// CheckDir reports, without changing anything, whether dir is or could be made on a bpffs. It is nil or an
// ErrNoBPFFS.
func CheckDir(dir string) error {
	on, err := onBPFFS(filepath.Dir(dir))
	if on {
		return nil
	}
	return noBPFFS(filepath.Dir(dir), err)
}

func ensureBPFFS(ctx context.Context, parent string) error {
	on, err := onBPFFS(parent)
	if on {
		return nil
	}
	if err != nil || parent != filepath.Dir(DefaultDir) {
		return noBPFFS(parent, err)
	}
	// Two first ADDs must not mount one over the other: the loser's pins would vanish. The state directory does not
	// exist yet, so the lock is on what surely does.
	l, err := lock.Exclusive(ctx, filepath.Dir(parent))
	if err != nil {
		return noBPFFS(parent, err)
	}
	defer l.Unlock()
	if on, _ := onBPFFS(parent); on {
		return nil
	}
	if err := unix.Mount("bpf", parent, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return noBPFFS(parent, err)
	}
	return nil
}

func noBPFFS(parent string, cause error) error {
	hint := fmt.Sprintf("mount one: mount -t bpf bpf %s, or set bpffsPath below one", parent)
	if cause != nil {
		return fmt.Errorf("%w at %s: %w (%s)", ErrNoBPFFS, parent, cause, hint)
	}
	return fmt.Errorf("%w at %s (%s)", ErrNoBPFFS, parent, hint)
}

func onBPFFS(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return st.Type == unix.BPF_FS_MAGIC, nil
}
