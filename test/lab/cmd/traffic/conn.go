// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A conn is a stream socket with O_NONBLOCK, as nearly every server uses it. Where the guard for blocking
// readers runs, sockmap keeps sockets without O_NONBLOCK on TCP.
type conn int

// socket makes a socket for addr, "ADDRESS:PORT" or "unix:PATH".
func socket(addr string) (conn, unix.Sockaddr, error) {
	family, sa, err := sockaddr(addr)
	if err != nil {
		return -1, nil, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("make socket: %w", err)
	}
	return conn(fd), sa, nil
}

func sockaddr(addr string) (family int, sa unix.Sockaddr, err error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: path}, nil
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, nil, fmt.Errorf("parse address: %w", err)
	}
	if ap.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}, nil
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}, nil
}

func dial(addr string) (conn, error) {
	c, sa, err := socket(addr)
	if err != nil {
		return -1, err
	}
	if err := c.connect(sa); err != nil {
		c.close()
		return -1, fmt.Errorf("connect to %s: %w", addr, err)
	}
	c.noDelay(sa)
	return c, nil
}

func (c conn) connect(sa unix.Sockaddr) error {
	if err := unix.Connect(int(c), sa); err != unix.EINPROGRESS {
		return err
	}
	c.await(unix.POLLOUT)
	errno, err := unix.GetsockoptInt(int(c), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}

// accept waits for a connection.
func (c conn) accept() (conn, error) {
	for {
		fd, _, err := unix.Accept4(int(c), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch err {
		case nil:
			return conn(fd), nil
		case unix.EAGAIN:
			c.await(unix.POLLIN)
		case unix.EINTR:
		default:
			return -1, fmt.Errorf("accept: %w", err)
		}
	}
}

// noDelay turns Nagle's algorithm off, as nearly all servers and clients do for which latency matters.
func (c conn) noDelay(sa unix.Sockaddr) {
	if _, ok := sa.(*unix.SockaddrUnix); !ok {
		_ = unix.SetsockoptInt(int(c), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
}

// name is the local address in the form that dial takes.
func (c conn) name() (string, error) {
	sa, err := unix.Getsockname(int(c))
	if err != nil {
		return "", fmt.Errorf("get local address: %w", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String(), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String(), nil
	case *unix.SockaddrUnix:
		return "unix:" + sa.Name, nil
	default:
		return "", fmt.Errorf("get local address: unknown type %T", sa)
	}
}

func (c conn) close() { _ = unix.Close(int(c)) }

// transfer is read(2) or write(2), and waits for the event. The Go scheduler is not notified of either.
func (c conn) transfer(call uintptr, b []byte, event int16) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(c), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
			uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			p := unix.PollFd{Fd: int32(c), Events: event}
			_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, 0, 0, 0, 0)
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// read returns io.EOF at the end.
func (c conn) read(b []byte) (int, error) {
	n, err := c.transfer(unix.SYS_READ, b, unix.POLLIN)
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// readFull returns io.EOF if the stream ends before the first byte.
func (c conn) readFull(b []byte) error {
	for done := 0; done < len(b); {
		n, err := c.read(b[done:])
		if err == io.EOF && done > 0 {
			return fmt.Errorf("read: %w after %d of %d bytes", io.ErrUnexpectedEOF, done, len(b))
		}
		if err != nil {
			return err
		}
		done += n
	}
	return nil
}

// await blocks until the event, or until a call would fail. Other goroutines run meanwhile.
func (c conn) await(event int16) {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(c), Events: event}}, -1)
		if err != unix.EINTR {
			return
		}
	}
}

func (c conn) writeAll(b []byte) error {
	for len(b) > 0 {
		n, err := c.transfer(unix.SYS_WRITE, b, unix.POLLOUT)
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
	}
	return nil
}
