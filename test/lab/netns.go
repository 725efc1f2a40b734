// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/loopback"
	"golang.org/x/sys/unix"
)

// elsewhere runs f on a thread whose network namespace enter has changed. It restores the thread's namespace,
// also when f ends the goroutine.
func elsewhere(enter, f func() error) (err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() {
		herr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		_ = home.Close()
		if herr != nil {
			// The thread stays locked, so that it ends with the goroutine and no other goroutine runs in the
			// wrong namespace.
			err = errors.Join(err, fmt.Errorf("return to own network namespace: %w", herr))
			return
		}
		runtime.UnlockOSThread()
	}()
	if err := enter(); err != nil {
		return err
	}
	return f()
}

// inNetNS runs f in the network namespace at path.
func inNetNS(path string, f func() error) error {
	return elsewhere(func() error { return enterNetNS(path) }, f)
}

func enterNetNS(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

// makeNetNS makes a network namespace, keeps it by a mount on a new file at path and runs setup inside. If
// setup fails, the namespace remains until dropNetNS.
func makeNetNS(path string, setup func() error) (err error) {
	var mounted bool
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("make file for network namespace: %w", err)
	}
	_ = f.Close()
	defer func() {
		// A file without a mount is useless.
		if err != nil && !mounted {
			_ = os.Remove(path)
		}
	}()
	unshare := func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		return nil
	}
	return elsewhere(unshare, func() error {
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount network namespace on %s: %w", path, err)
		}
		mounted = true
		return setup()
	})
}

// dropNetNS undoes makeNetNS. It is no error if nothing is there.
func dropNetNS(path string) error {
	if err := unmount(path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove file of network namespace: %w", err)
	}
	return nil
}

// unmount removes every mount at path. It is no error if there is none.
func unmount(path string) error {
	for {
		switch err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
		case nil:
		case unix.EINVAL, unix.ENOENT:
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

// setUpLoopback brings lo up and turns duplicate address detection off: these networks have no other
// machines, and an IPv6 address that is tentative for a second cannot be bound.
func setUpLoopback() error {
	if err := loopback.Up(); err != nil {
		return err
	}
	return sysctls(map[string]string{
		"net/ipv6/conf/all/accept_dad":     "0",
		"net/ipv6/conf/default/accept_dad": "0",
	})
}

// sysctls writes sysctls of the calling thread's network namespace.
func sysctls(values map[string]string) error {
	for name, value := range values {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("set sysctl %s to %s: %w", name, value, err)
		}
	}
	return nil
}

// netnsCookie returns the netns cookie of the calling thread's network namespace.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	return socketCookie(fd)
}

// socketCookie returns the netns cookie of the network namespace that a socket is in.
func socketCookie(fd int) (uint64, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("get network namespace cookie: %w", err)
	}
	return cookie, nil
}
