// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// conn is a non-blocking stream socket, TCP or Unix.
type conn struct {
	fd int
	w  *waiter
}

func newSocket(o Order) (fd int, err error) {
	family := unix.AF_INET
	if onUnix(o.Addr) {
		family = unix.AF_UNIX
	}
	n, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family),
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if e != 0 {
		return 0, fmt.Errorf("make socket: %w", e)
	}
	fd = int(n)
	if !onUnix(o.Addr) {
		err = setUpTCP(fd, o)
	}
	if err == nil && o.Kept {
		err = setOption(fd, unix.SOL_SOCKET, unix.SO_PEEK_OFF, 0)
	}
	if err != nil {
		closeFD(fd)
		return 0, fmt.Errorf("set option of a socket: %w", err)
	}
	return fd, nil
}

// setUpTCP disables Nagle's algorithm, except for streams, as programs do.
func setUpTCP(fd int, o Order) error {
	if o.Kind != Stream {
		if err := setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
	}
	if o.Congestion == "" {
		return nil
	}
	name := o.Congestion
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION,
		uintptr(unsafe.Pointer(unsafe.StringData(name))), uintptr(len(name)), 0)
	if e != 0 {
		return fmt.Errorf("congestion control %q: %w", name, e)
	}
	return nil
}

func onUnix(addr string) bool { return strings.HasPrefix(addr, "@") }

// address is in the kernel's form. It is kept, so that connecting again needs no parsing.
type address struct {
	inet unix.RawSockaddrInet4
	unix unix.RawSockaddrUnix
	size uintptr
}

func parse(addr string) (*address, error) {
	a := &address{}
	if onUnix(addr) {
		a.unix.Family = unix.AF_UNIX
		for i := 1; i < len(addr) && i < len(a.unix.Path); i++ { // Path[0] stays 0: no file
			a.unix.Path[i] = int8(addr[i])
		}
		a.size = unsafe.Offsetof(a.unix.Path) + uintptr(len(addr))
		return a, nil
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().Is4() {
		return nil, fmt.Errorf("address %q is not an IPv4 address and port, nor @name", addr)
	}
	port := ap.Port()
	a.inet = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port>>8 | port<<8, Addr: ap.Addr().As4()}
	a.size = unsafe.Sizeof(a.inet)
	return a, nil
}

// pointer is for a raw system call. The garbage collector is off, so the memory of a does not move.
func (a *address) pointer() uintptr {
	if a.unix.Family == unix.AF_UNIX {
		return uintptr(unsafe.Pointer(&a.unix))
	}
	return uintptr(unsafe.Pointer(&a.inet))
}

// dial connects, and waits until that is done.
func dial(o Order, to *address, w *waiter) (conn, error) {
	fd, err := newSocket(o)
	if err != nil {
		return conn{}, err
	}
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), to.pointer(), to.size)
	switch e {
	case 0:
	case unix.EINPROGRESS:
		err = w.await(fd, unix.POLLOUT) // if it fails, the first write tells
	default:
		err = e
	}
	if err != nil {
		closeFD(fd)
		return conn{}, fmt.Errorf("connect to %s: %w", o.Addr, err)
	}
	return conn{fd, w}, nil
}

// backlog of a listener: the number of connections that may wait for accept.
const backlog = 4096

func listen(o Order) (fd int, addr string, err error) {
	at, err := parse(o.Addr)
	if err != nil {
		return 0, "", err
	}
	if fd, err = newSocket(o); err != nil {
		return 0, "", err
	}
	// A port that was named may still have connections in TIME_WAIT.
	if err := setOption(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		closeFD(fd)
		return 0, "", fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), at.pointer(), at.size); e != 0 {
		closeFD(fd)
		return 0, "", fmt.Errorf("bind to %s: %w", o.Addr, e)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		closeFD(fd)
		return 0, "", fmt.Errorf("listen on %s: %w", o.Addr, err)
	}
	addr, err = boundTo(fd, o.Addr)
	return fd, addr, err
}

func boundTo(fd int, asked string) (string, error) {
	if onUnix(asked) {
		return asked, nil
	}
	sa, err := unix.Getsockname(fd)
	in, ok := sa.(*unix.SockaddrInet4)
	if err != nil || !ok {
		return "", fmt.Errorf("ask a listener for its address: %w", err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)).String(), nil
}

// attempts to accept, each after a wake-up.
const attempts = 1000

// accept waits for the next connection. It has the options of the listener, because the kernel copies them.
func accept(listener int, w *waiter) (conn, error) {
	for range attempts {
		if err := w.await(listener, unix.POLLIN); err != nil {
			return conn{}, fmt.Errorf("accept: %w", err)
		}
		fd, e := acceptOnce(listener)
		if e == 0 {
			return conn{fd, w}, nil
		}
		if e != unix.EAGAIN && e != unix.EINTR && e != unix.ECONNABORTED {
			return conn{}, fmt.Errorf("accept: %w", e)
		}
	}
	return conn{}, errors.New("accept: woken up without end for nothing")
}

func (c conn) close() { closeFD(c.fd) }

// await waits until there is something to read.
func (c conn) await() error { return c.w.await(c.fd, unix.POLLIN) }

// writeAll needs at most len(b) rounds: each writes something, or waits for space.
func (c conn) writeAll(b []byte) error {
	for len(b) > 0 {
		n, e := writeOnce(c.fd, b)
		switch e {
		case 0:
			b = b[n:]
		case unix.EAGAIN:
			if err := c.w.await(c.fd, unix.POLLOUT); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		case unix.EINTR:
		default:
			return fmt.Errorf("write: %w", e)
		}
	}
	return nil
}

// readSome waits only if there is nothing. It returns io.EOF at the end.
func (c conn) readSome(b []byte) (int, error) {
	for {
		n, e := readOnce(c.fd, b)
		switch {
		case e == 0 && n > 0:
			return n, nil
		case e == 0:
			return 0, io.EOF
		case e == unix.EAGAIN:
			if err := c.await(); err != nil {
				return 0, fmt.Errorf("read: %w", err)
			}
		case e != unix.EINTR:
			return 0, fmt.Errorf("read: %w", e)
		}
	}
}

// readAll returns io.EOF only where b would begin.
func (c conn) readAll(b []byte) error { return c.readBy(len(b), b) }

// readBy is readAll with reads of at most most bytes; 0: no limit.
func (c conn) readBy(most int, b []byte) error {
	if most <= 0 {
		most = len(b)
	}
	for got := 0; got < len(b); {
		n, err := c.readSome(b[got:min(got+most, len(b))])
		if errors.Is(err, io.EOF) && got > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		got += n
	}
	return nil
}

// byTCP is the number of bytes that TCP_INFO reports as sent.
func (c conn) byTCP() uint64 {
	info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil { // no TCP at all
		return 0
	}
	return info.Bytes_sent - info.Bytes_retrans
}
