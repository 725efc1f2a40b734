// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/sockmap-cni/sockmap-cni/pkg/ownfile"
	"golang.org/x/sys/unix"
)

// EnsureDir makes the state directory dir (mode 0700: a process that can open it can take its lock), mounting
// bpffs at its parent when nothing is mounted there and the parent is the customary /sys/fs/bpf. Otherwise it
// returns ErrNoBPFFS with the way out. OpenStateDir checks the owner of a directory that exists.
func EnsureDir(ctx context.Context, dir string) error {
	parent := filepath.Dir(dir)
	if err := ensureBPFFS(ctx, parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, stateDirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make state directory: %w", err)
	}
	return nil
}

// CheckDir reports, without changing anything, whether dir is or could be made on a bpffs. It is nil, an
// ErrNoBPFFS, or what OpenStateDir says of a directory that is there.
func CheckDir(dir string) error {
	on, err := onBPFFS(filepath.Dir(dir))
	if !on {
		return noBPFFS(filepath.Dir(dir), err)
	}
	s, err := OpenStateDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.Close()
}

func ensureBPFFS(ctx context.Context, parent string) error {
	on, err := onBPFFS(parent)
	if on {
		return nil
	}
	if err != nil || parent != filepath.Dir(DefaultDir) {
		return noBPFFS(parent, err)
	}
	if mirrored(parent) {
		return noBPFFS(parent, errMirrored)
	}
	// Two first ADDs must not mount one over the other, or the pins of one would vanish.
	unlock, err := lockMounting(ctx)
	if err != nil {
		return noBPFFS(parent, err)
	}
	defer unlock()
	if on, _ := onBPFFS(parent); on {
		return nil
	}
	if private(parent) {
		return noBPFFS(parent, errPrivate)
	}
	if err := unix.Mount("bpf", parent, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC,
		"mode=0700"); err != nil {
		return noBPFFS(parent, err)
	}
	return nil
}

// If a container mounted bpffs for itself, neither the plugin nor others on the node would see its pins.
var errMirrored = errors.New("this container only sees the node's mounts and cannot add to them: mount it " +
	"on the node")

// A plugin of a runtime with a mount namespace of its own would mount bpffs where no command on the node sees
// it. All pins would vanish with the namespace, while live flows continue.
var errPrivate = errors.New("this process is in a mount namespace of its own, and the node would not see " +
	"the mount: mount it on the node")

// firstMountNS is a variable for tests: not every sandbox lets its processes look at process 1.
var firstMountNS = "/proc/1/ns/mnt"

// private reports whether a mount at path would stay in this mount namespace, which is not the one of process
// 1. A container with process ids of its own looks like the node here.
func private(path string) bool {
	own, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return false
	}
	first, err := os.Readlink(firstMountNS)
	return err == nil && own != first && !strings.Contains(propagation(path), "shared:")
}

// mirrored reports whether a mount at path would be visible in this mount namespace only, although the mount
// that contains path is a copy: it receives mounts (MS_SLAVE) and propagates none.
func mirrored(path string) bool {
	options := propagation(path)
	return strings.Contains(options, "master:") && !strings.Contains(options, "shared:")
}

// propagation returns the propagation of the mount that contains path, as mountinfo has it: shared:N,
// master:N, both or neither.
func propagation(path string) string {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return ""
	}
	on := &mountinfo.Info{}
	for _, m := range mounts {
		// ">=": of mounts on one place, the last one is on top.
		if len(m.Mountpoint) >= len(on.Mountpoint) {
			on = m
		}
	}
	return on.Optional
}

// mountLock is created for the time of a mount. /sys/fs itself, where bpffs is mounted, could be locked by
// everybody.
const mountLock = "/run/sockmap-cni.lock"

func lockMounting(ctx context.Context) (unlock func(), err error) {
	l, err := ownfile.Lock(ctx, mountLock)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil // no /run: a container of its own, which would exclude nobody
	}
	if err != nil {
		return nil, err
	}
	return func() { l.Remove() }, nil
}

// MountHint returns the command that mounts bpffs for root alone. Without the mode everybody may create
// directories there.
func MountHint(at string) string { return "mount -t bpf -o mode=0700 bpf " + at }

func noBPFFS(parent string, cause error) error {
	hint := fmt.Sprintf("mount one: %s, or set bpffsPath below one", MountHint(parent))
	if errors.Is(cause, unix.EACCES) {
		hint = "run as root, or with CAP_DAC_OVERRIDE"
	}
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
