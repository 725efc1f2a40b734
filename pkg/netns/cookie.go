// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// cookieIn asks for the cookie of the namespace behind fd, on a thread that
// goes there and comes back to home, the path of the thread's own namespace.
func cookieIn(fd int, home string) (uint64, error) {
	type answer struct {
		cookie uint64
		err    error
	}
	done := make(chan answer, 1)
	// A goroutine of its own, as only the end of a locked goroutine makes the
	// runtime throw its thread away.
	go func() {
		runtime.LockOSThread()
		c, back, err := visit(fd, home)
		if back {
			runtime.UnlockOSThread()
		}
		done <- answer{c, err}
	}()
	a := <-done
	return a.cookie, a.err
}

// visit moves the calling thread into the namespace behind fd and back. While
// back is false, the thread is in the wrong namespace and must not be reused.
func visit(fd int, home string) (c uint64, back bool, err error) {
	h, err := unix.Open(home, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, true, fmt.Errorf("open own network namespace: %w", err)
	}
	defer unix.Close(h)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return 0, true, enterError(err)
	}
	c, err = cookie()
	// Not an error of the caller: the answer is good, only the thread is lost.
	back = unix.Setns(h, unix.CLONE_NEWNET) == nil
	return c, back, err
}

// cookie asks for the cookie of the calling thread's network namespace.
func cookie() (uint64, error) {
	// AF_UNIX: unlike AF_INET, creating one runs nobody's BPF program.
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make a socket: %w", err)
	}
	defer unix.Close(s)
	c, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, cookieError(err)
	}
	return c, nil
}

func enterError(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("enter: %w (run as root, with CAP_SYS_ADMIN)", err)
	}
	return fmt.Errorf("enter: %w", err)
}

func cookieError(err error) error {
	if errors.Is(err, unix.ENOPROTOOPT) {
		return ErrNotSupported
	}
	return fmt.Errorf("ask for the cookie: %w", err)
}
