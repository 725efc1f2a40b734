// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"io"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// settling bounds how long a new pair may use TCP. The most frequent cause, a lack of memory, is temporary.
const settling = 3 * time.Second

// pair is one connection over loopback: bytes go from writer to reader. Descriptors are non-blocking.
type pair struct{ writer, reader int }

func (p pair) close() {
	unix.Close(p.writer)
	unix.Close(p.reader)
}

// newPair connects two sockets; prepare, if any, is called for the writer before it connects.
func newPair(proto int, prepare func(fd int) error) (p pair, err error) {
	l, err := newListener(proto)
	if err != nil {
		return p, err
	}
	defer l.close()
	return l.pair(prepare)
}

// listener makes pairs whose readers have one listening port.
type listener struct {
	fd   int
	addr unix.Sockaddr
}

func newListener(proto int) (l listener, err error) {
	l.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return l, fmt.Errorf("make listener: %w", err)
	}
	if err := errors.Join(unix.Bind(l.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(l.fd, 1)); err != nil {
		l.close()
		return l, fmt.Errorf("listen: %w", err)
	}
	if l.addr, err = unix.Getsockname(l.fd); err != nil {
		l.close()
		return l, fmt.Errorf("ask listener's address: %w", err)
	}
	return l, nil
}

func (l listener) close() { unix.Close(l.fd) }

func (l listener) pair(prepare func(fd int) error) (p pair, err error) {
	p.writer, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return p, fmt.Errorf("make socket: %w", err)
	}
	if prepare != nil {
		if err := prepare(p.writer); err != nil {
			unix.Close(p.writer)
			return p, err
		}
	}
	if err := connect(p.writer, l.addr); err != nil {
		unix.Close(p.writer)
		return p, err
	}
	p.reader, _, err = unix.Accept4(l.fd, unix.SOCK_CLOEXEC)
	if err != nil {
		unix.Close(p.writer)
		return p, fmt.Errorf("accept: %w", err)
	}
	return p, errors.Join(unix.SetNonblock(p.writer, true), unix.SetNonblock(p.reader, true))
}

// connect does not wait for the handshake, because a guard may keep a blocking descriptor on TCP. The
// handshake is complete when the other end has been accepted.
func connect(fd int, to unix.Sockaddr) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("set O_NONBLOCK: %w", err)
	}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// redirected returns a pair whose last message was redirected and read, so that the next one is redirected,
// too.
func redirected() (pair, error) {
	p, err := newPair(0, nil)
	if err != nil {
		return p, err
	}
	if err := p.settle(); err != nil {
		p.close()
		return p, err
	}
	return p, nil
}

// settle exchanges messages until one does not use TCP. A pair that stays on TCP is an error, because probes
// would find neither hazards nor guards on it.
func (p pair) settle() error {
	var before uint64
	messages := 0
	for start := time.Now(); time.Since(start) < settling || messages < 4; messages++ {
		if messages >= 4 {
			time.Sleep(10 * time.Millisecond)
		}
		if err := p.exchange(1); err != nil {
			return err
		}
		sent, err := p.sentByTCP()
		if err != nil {
			return err
		}
		if messages > 0 && sent == before {
			return nil
		}
		before = sent
	}
	return fmt.Errorf("redirect: each of %d messages between two sockets of the probe used TCP, for %v: "+
		"nothing is accelerated on this kernel, or not now; please report it with the kernel's version",
		messages, settling)
}

// sentByTCP returns the number of bytes that the writer has sent over TCP. No program that adds redirected
// bytes to TCP_INFO runs during the probes.
func (p pair) sentByTCP() (uint64, error) {
	info, err := unix.GetsockoptTCPInfo(p.writer, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, fmt.Errorf("ask for bytes sent: %w", err)
	}
	return info.Bytes_sent, nil
}

func (p pair) write(size int) error {
	n, err := unix.Write(p.writer, make([]byte, size))
	if err == nil && n != size {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write %d bytes: %w", size, err)
	}
	return nil
}

// await reports whether the reader becomes readable in time. Go's own signals interrupt the wait.
func (p pair) await() bool { return pollFor(p.reader, unix.POLLIN) }

func pollFor(fd int, events int16) bool {
	for end := time.Now().Add(wait); ; {
		ms := max(0, int(time.Until(end)/time.Millisecond))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, ms)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n == 1
		}
	}
}

// read reads exactly size bytes.
func (p pair) read(size int) error {
	buf := make([]byte, size)
	for size > 0 {
		if !p.await() {
			return fmt.Errorf("read: %d bytes are missing", size)
		}
		n, err := unix.Read(p.reader, buf[:size])
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("read: %w, %d bytes are missing", io.ErrUnexpectedEOF, size)
		}
		size -= n
	}
	return nil
}

func (p pair) exchange(size int) error {
	if err := p.write(size); err != nil {
		return err
	}
	return p.read(size)
}

func (p pair) inq() (int, error) { return unix.IoctlGetInt(p.reader, unix.SIOCINQ) }

// charged is the receive memory that the kernel charges to the reader, in bytes.
func (p pair) charged() (uint32, error) {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(p.reader), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("ask for memory: %w", errno)
	}
	return info[0], nil
}
