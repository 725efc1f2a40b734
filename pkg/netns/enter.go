// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// runIn runs do in the namespace behind fd, on a thread that enters it and returns to home, the path of the
// thread's own namespace.
func runIn(fd int, home string, do func() error) error {
	done := make(chan error, 1)
	// A goroutine of its own: the Go runtime discards the thread of a locked goroutine only when the
	// goroutine ends.
	go func() {
		runtime.LockOSThread()
		back, err := enterAndReturn(fd, home, do)
		if back {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// enterAndReturn moves the calling thread into the namespace behind fd and back. If back is false, the thread
// is in the wrong namespace and must not be reused.
func enterAndReturn(fd int, home string, do func() error) (back bool, err error) {
	h, err := unix.Open(home, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, fmt.Errorf("open own network namespace: %w", err)
	}
	defer unix.Close(h)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return true, enterError(err)
	}
	err = do()
	// Not an error for the caller: the result is good, only the thread has to be discarded.
	back = unix.Setns(h, unix.CLONE_NEWNET) == nil
	return back, err
}

func enterError(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("enter: %w (run as root, with CAP_SYS_ADMIN)", err)
	}
	return fmt.Errorf("enter: %w", err)
}

// Each runs do once in each network namespace that can be found: those at paths, those with a name in
// /run/netns, and those of the threads in /proc. It stops at the first error of do. It skips namespaces that
// are gone or cannot be entered. It needs CAP_SYS_ADMIN.
func Each(paths []string, do func() error) error { return EachOf(candidates(paths), do) }

// EachOf is Each for the namespaces at paths and no others.
func EachOf(paths []string, do func() error) error {
	seen := map[[2]uint64]bool{}
	for _, path := range paths {
		dev, inode, err := Stat(path)
		if err != nil || seen[[2]uint64{dev, inode}] {
			continue
		}
		seen[[2]uint64{dev, inode}] = true
		if err := runInPath(path, do); err != nil {
			return err
		}
	}
	return nil
}

// candidates starts with the namespaces that have a path of their own, because a process may end before its
// path is used.
func candidates(paths []string) []string {
	all := append([]string{ownNet}, paths...)
	for _, pattern := range []string{"/run/netns/*", "/proc/[0-9]*/task/[0-9]*/ns/net"} {
		found, _ := filepath.Glob(pattern) // the patterns are valid
		all = append(all, found...)
	}
	return all
}

func runInPath(path string, do func() error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var failed error
	_ = runIn(fd, ownNet, func() error { failed = do(); return nil })
	return failed
}
