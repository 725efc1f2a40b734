// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendAll sends all of b with flags.
func sendAll(raw syscall.RawConn, b []byte, flags int) error {
	for len(b) > 0 {
		var n int
		var sendErr error
		err := raw.Write(func(fd uintptr) bool {
			n, sendErr = unix.SendmsgN(int(fd), b, nil, nil, flags)
			return !errors.Is(sendErr, unix.EAGAIN)
		})
		if err = errors.Join(err, sendErr); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// peek reads the waiting bytes and leaves them in the queue.
func peek(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var peekErr error
	err = raw.Read(func(fd uintptr) bool {
		_, _, peekErr = unix.Recvfrom(int(fd), make([]byte, 100), unix.MSG_PEEK)
		return !errors.Is(peekErr, unix.EAGAIN)
	})
	return errors.Join(err, peekErr)
}
