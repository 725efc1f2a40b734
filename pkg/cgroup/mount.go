// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// privateSource is the device name of mounts that MountPrivate makes. cgroup2 does not use it, so later runs
// recognise the mount by it.
const privateSource = "sockmap-cni"

// Mount is a mount of the cgroup2 hierarchy.
type Mount struct {
	Path string
	// Private: MountPrivate made it, because the host has none. Then no runtime uses cgroup2, and probably
	// all processes are in the root cgroup.
	Private bool
}

// FindMount returns the host's mount of cgroup2, or ErrNoCgroup2.
func FindMount() (Mount, error) {
	// The usual places, on unified and on hybrid hosts. Reading all mounts of a busy node would cost more
	// than everything else here together.
	for _, path := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if isCgroup2(path) {
			return Mount{Path: path}, nil
		}
	}
	mounts, err := cgroup2Mounts()
	if err != nil {
		return Mount{}, fmt.Errorf("find cgroup2 mount: %w", err)
	}
	var found *mountinfo.Info
	for _, m := range mounts {
		// A mount that is listed may be covered by another one.
		if !isCgroup2(m.Mountpoint) {
			continue
		}
		// A bind mount of a part of the hierarchy is used only if there is no other.
		if found == nil || m.Root == "/" && found.Root != "/" {
			found = m
		}
	}
	if found == nil {
		return Mount{}, ErrNoCgroup2
	}
	return Mount{Path: found.Mountpoint, Private: found.Source == privateSource}, nil
}

// MountPrivate mounts cgroup2 on the directory dir, and creates dir with mode 0700 if necessary. If cgroup2
// is mounted there already, it does nothing.
func MountPrivate(dir string) (Mount, error) {
	m := Mount{Path: dir, Private: true}
	if isCgroup2(dir) {
		return m, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Mount{}, fmt.Errorf("make mount point for cgroup2: %w", err)
	}
	// mount(2) would follow a symbolic link.
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
		return Mount{}, fmt.Errorf("mount cgroup2 on %q: is not a directory (remove it): %w", dir,
			errors.Join(err, unix.ENOTDIR))
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return Mount{}, fmt.Errorf("make mount point for cgroup2: %w", err)
	}
	err := unix.Mount(privateSource, dir, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	// EBUSY: another process has mounted it meanwhile; the kernel does not mount it twice.
	if errors.Is(err, unix.EBUSY) && isCgroup2(dir) {
		err = nil
	}
	switch {
	case errors.Is(err, unix.EPERM):
		return Mount{}, fmt.Errorf("mount cgroup2 on %q: %w (run as root, with CAP_SYS_ADMIN)", dir, err)
	case errors.Is(err, unix.ENODEV):
		return Mount{}, fmt.Errorf("mount cgroup2 on %q: %w (the kernel has no cgroup2: CONFIG_CGROUPS)", dir, err)
	case err != nil:
		return Mount{}, fmt.Errorf("mount cgroup2 on %q: %w", dir, err)
	}
	return m, nil
}

// Unmount removes a mount of MountPrivate. It does nothing for other mounts, and returns nil if the mount is
// gone.
func (m Mount) Unmount() error {
	if !m.Private {
		return nil
	}
	if isCgroup2(m.Path) {
		if err := unix.Unmount(m.Path, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount private cgroup2 %q: %w", m.Path, err)
		}
	}
	if err := unix.Rmdir(m.Path); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove mount point of cgroup2 %q: %w", m.Path, err)
	}
	return nil
}

// OpenOwnRoot opens the cgroup2 directory at the root of this process's cgroup namespace. In a container that
// is the container's own cgroup, whatever is mounted. If the host mounts cgroup2 with nsdelegate, the
// container may move processes only within that part. Use the directory below /proc/self/fd to create
// cgroups; the caller closes it. Outside of containers OpenOwnRoot returns ErrInitialNamespace; use FindMount
// there. It needs CAP_SYS_ADMIN.
func OpenOwnRoot() (*os.File, error) {
	// In the initial namespace, mounting would reset options of the host's own mount.
	if inInitialNamespace() {
		return nil, ErrInitialNamespace
	}
	making, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount own part of cgroup2: %w", err)
	}
	defer unix.Close(making)
	if err := unix.FsconfigCreate(making); err != nil {
		return nil, fmt.Errorf("mount own part of cgroup2: %w", err)
	}
	mounted, err := unix.Fsmount(making, unix.FSMOUNT_CLOEXEC,
		unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount own part of cgroup2: %w", err)
	}
	return os.NewFile(uintptr(mounted), "cgroup2"), nil
}

// Own returns the directory of the cgroup of this process.
func (m Mount) Own() (string, error) {
	name, err := unifiedName("self")
	if err != nil {
		return "", fmt.Errorf("find own cgroup: %w", err)
	}
	rel, ok, err := m.inside(name)
	if err != nil {
		return "", fmt.Errorf("find own cgroup: %w", err)
	}
	if !ok {
		return "", fmt.Errorf("find own cgroup: %q is not below what %q shows", name, m.Path)
	}
	return filepath.Join(m.Path, rel), nil
}

// inside converts a name of /proc/PID/cgroup to a path relative to m. ok is false if the cgroup is not below
// m. An error means that the names do not show it.
func (m Mount) inside(name string) (rel string, ok bool, err error) {
	root, err := m.rootName()
	if err != nil {
		return "", false, err
	}
	rel, ok = below(root, name)
	// If the root of m is above the root of this cgroup namespace, m shows more than names in
	// /proc/PID/cgroup can express.
	if !ok && strings.HasPrefix(root, "/..") {
		return "", false, fmt.Errorf("%q shows cgroups from outside of this cgroup namespace", m.Path)
	}
	return rel, ok, nil
}

// rootName returns the cgroup at m.Path, as /proc/PID/cgroup would name it.
func (m Mount) rootName() (string, error) {
	mounts, err := cgroup2Mounts()
	if err != nil {
		return "", err
	}
	var root, point string
	for _, listed := range mounts {
		// ">=": of several mounts on one place, the last one is on top.
		if rest, ok := below(listed.Mountpoint, m.Path); ok && len(listed.Mountpoint) >= len(point) {
			root, point = listed.Root, listed.Mountpoint
			if rest != "." {
				// Not filepath.Join, which would remove the ".." from "/..".
				root = strings.TrimSuffix(root, "/") + "/" + rest
			}
		}
	}
	if point == "" {
		return "", fmt.Errorf("look up mount of %q: %w", m.Path, ErrNotCgroup2)
	}
	return root, nil
}

// cgroup2Mounts lists the cgroup2 mounts of this mount namespace, in the order of mountinfo.
func cgroup2Mounts() ([]*mountinfo.Info, error) {
	return mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
}

// below returns path relative to dir, "." for dir itself. Both must be clean.
func below(dir, path string) (rel string, ok bool) {
	if path == dir {
		return ".", true
	}
	rel, ok = strings.CutPrefix(path, strings.TrimSuffix(dir, "/")+"/")
	return rel, ok
}

func isCgroup2(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}
