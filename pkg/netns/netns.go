// SPDX-License-Identifier: Apache-2.0

// Package netns identifies network namespaces.
//
// BPF programs identify a network namespace by its cookie, which the kernel never assigns twice. The inode
// number of the nsfs file is reused once a namespace is gone, so it can only compare namespaces that both
// exist.
package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrNotNetNS: the path exists but is no network namespace, for example the plain file that remains in
	// /run/netns after its namespace was unmounted.
	ErrNotNetNS = errors.New("not a network namespace")
	// ErrNotSupported: the kernel has no cookies.
	ErrNotSupported = errors.New("kernel does not know SO_NETNS_COOKIE (Linux 5.14 or later is needed)")
)

// Of the calling thread: /proc/self would be the namespaces of the main thread.
const (
	ownNet   = "/proc/thread-self/ns/net"
	ownMount = "/proc/thread-self/ns/mnt"
)

// ID identifies a network namespace.
type ID struct {
	// Cookie is unique for the life of the kernel, see SO_NETNS_COOKIE.
	Cookie uint64
	// Dev and Inode are those of the nsfs file, unique among existing namespaces.
	Dev, Inode uint64
}

// Identify returns the identity of the network namespace at path. It needs CAP_SYS_ADMIN: only a socket has
// the cookie, so a thread enters the namespace for a moment.
//
// A missing path is fs.ErrNotExist. See also ErrNotNetNS and ErrNotSupported.
func Identify(path string) (ID, error) {
	id, err := identify(path, func(fd int) (uint64, error) { return cookieIn(fd, ownNet) })
	if err != nil {
		return ID{}, fmt.Errorf("identify network namespace %q: %w", path, err)
	}
	return id, nil
}

// OwnID returns the identity of the network namespace of the caller.
func OwnID() (ID, error) {
	runtime.LockOSThread() // the file and the socket must belong to one thread
	defer runtime.UnlockOSThread()
	id, err := identify(ownNet, func(int) (uint64, error) { return cookie() })
	if err != nil {
		return ID{}, fmt.Errorf("identify own network namespace: %w", err)
	}
	return id, nil
}

// Stat returns device and inode of the namespace file at path without entering it. A missing path is
// fs.ErrNotExist, and a file that is no namespace is ErrNotNetNS. Stat does not check the kind of namespace.
func Stat(path string) (dev, ino uint64, err error) {
	var st unix.Stat_t
	err = unix.Stat(path, &st)
	if err == unix.EACCES {
		err = fmt.Errorf("%w (run as root, or with CAP_DAC_OVERRIDE)", err)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("stat network namespace %q: %w", path, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, fmt.Errorf("statfs network namespace %q: %w", path, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return 0, 0, fmt.Errorf("stat network namespace %q: %w", path, ErrNotNetNS)
	}
	return st.Dev, st.Ino, nil
}

// SameAsOwn reports whether path is the network namespace of the caller, which for a CNI plugin is that of
// the host.
func SameAsOwn(path string) (bool, error) {
	dev, ino, err := Stat(path)
	if err != nil {
		return false, err
	}
	ownDev, ownIno, err := Stat(ownNet)
	if err != nil {
		// Not wrapped: an error of the caller's own namespace says nothing about path.
		return false, fmt.Errorf("look at own network namespace (is /proc mounted?): %v", err)
	}
	return dev == ownDev && ino == ownIno, nil
}

// MountNS returns the inode of the caller's mount namespace. A path that was recorded in another mount
// namespace may name something else here.
func MountNS() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(ownMount, &st); err != nil {
		return 0, fmt.Errorf("stat own mount namespace: %w", err)
	}
	return st.Ino, nil
}

// PID returns the process in path, if path is /proc/PID/ns/net or /proc/PID/task/TID/ns/net. The process need
// not exist.
func PID(path string) (int, bool) {
	w := strings.Split(filepath.Clean(path), "/")
	// Remove the thread: "", "proc", PID, "task", TID, "ns", "net".
	if len(w) == 7 && w[3] == "task" {
		if _, ok := positive(w[4]); !ok {
			return 0, false
		}
		w = append(w[:3:3], w[5:]...)
	}
	if len(w) != 5 || w[0] != "" || w[1] != "proc" || w[3] != "ns" || w[4] != "net" {
		return 0, false
	}
	return positive(w[2])
}

func positive(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil || n == 0 {
		return 0, false
	}
	return int(n), true
}

func identify(path string, ask func(fd int) (uint64, error)) (ID, error) {
	// O_NONBLOCK, because path comes from outside and might be a FIFO.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return ID{}, fmt.Errorf("open: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return ID{}, fmt.Errorf("stat: %w", err)
	}
	if err := checkKind(fd); err != nil {
		return ID{}, err
	}
	c, err := ask(fd)
	if err != nil {
		return ID{}, err
	}
	return ID{Cookie: c, Dev: st.Dev, Inode: st.Ino}, nil
}

func checkKind(fd int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	// Before the ioctl, whose number means something else for other files.
	if fs.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("%w: on a file system of type %#x", ErrNotNetNS, fs.Type)
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("ask for the kind of namespace: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return fmt.Errorf("%w: a namespace of type %#x", ErrNotNetNS, kind)
	}
	return nil
}
