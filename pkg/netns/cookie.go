// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// cookieIn reads the cookie of the namespace behind fd, on a thread that enters it and returns to home, the
// path of the thread's own namespace.
func cookieIn(fd int, home string) (c uint64, err error) {
	err = runIn(fd, home, func() (err error) {
		c, err = cookie()
		return err
	})
	return c, err
}

// cookie reads the cookie of the calling thread's network namespace.
func cookie() (uint64, error) {
	// AF_UNIX: unlike AF_INET, creating one runs no BPF program.
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

func cookieError(err error) error {
	if errors.Is(err, unix.ENOPROTOOPT) {
		return ErrNotSupported
	}
	return fmt.Errorf("ask for the cookie: %w", err)
}
