// SPDX-License-Identifier: Apache-2.0

package stopped

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/loopback"
	"golang.org/x/sys/unix"
)

// work is an order to a child, and did is its reply.
type work struct {
	Connections int
	Bytes       int // size of each message
	ReadFirst   bool
}

type did struct {
	Sent   int64  `json:"sentBytes"`
	Sends  int64  `json:"sends"`
	Errors int64  `json:"errors"`          // sends that failed with anything but EAGAIN
	Held   int    `json:"held"`            // senders that were blocked in the end
	Errno  string `json:"errno,omitempty"` // errno of the last that failed
}

const (
	batch    = 64        // messages of one sendmmsg(2)
	firstOf  = 192 << 10 // bytes of the first burst to a reader that reads
	lastOf   = 6 << 20
	mostOfIt = 64 << 20 // bytes: a sender that nothing blocks stops here
)

// child makes the connections, fills them, and holds them until its input ends.
func child(in io.Reader, out io.Writer) error {
	var w work
	asked := json.NewDecoder(in)
	if err := asked.Decode(&w); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	senders, readers, err := connections(w.Connections)
	if err != nil {
		return err
	}
	if w.ReadFirst {
		for i := range senders {
			for burst := firstOf; burst <= lastOf; burst *= 2 {
				if err := pass(senders[i], readers[i], burst); err != nil {
					return err
				}
			}
		}
	}
	if err := json.NewEncoder(out).Encode(fill(senders, w.Bytes)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

func connections(n int) (senders, readers []int, err error) {
	limit := unix.Rlimit{Cur: uint64(2*n + 64), Max: uint64(2*n + 64)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, nil, fmt.Errorf("allow %d open files: %w", limit.Cur, err)
	}
	if err := loopback.Up(); err != nil {
		return nil, nil, err
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, nil, err
	}
	if err := unix.Listen(l, 16); err != nil {
		return nil, nil, err
	}
	at, err := unix.Getsockname(l)
	if err != nil {
		return nil, nil, err
	}
	for range n {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, nil, err
		}
		if err := unix.Connect(c, at); err != nil {
			return nil, nil, fmt.Errorf("connect: %w", err)
		}
		s, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if err != nil {
			return nil, nil, fmt.Errorf("accept: %w", err)
		}
		senders, readers = append(senders, c), append(readers, s)
	}
	return senders, readers, nil
}

// pass sends a burst as far as the send buffer takes it, lets the reader read, and repeats until all bytes
// have come.
func pass(from, to, burst int) error {
	buf := make([]byte, 16<<10)
	idle := 0
	for sent, got := 0, 0; got < burst; {
		moved := false
		for sent < burst {
			n, err := unix.SendmsgN(from, buf[:min(len(buf), burst-sent)], nil, nil,
				unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if err != nil && err != unix.EAGAIN && err != unix.EINTR {
				return fmt.Errorf("send to a reader that reads: %w", err)
			}
			if err != nil {
				break
			}
			sent, moved = sent+n, true
		}
		for got < burst {
			n, _, err := unix.Recvfrom(to, buf, unix.MSG_DONTWAIT)
			if err != nil || n <= 0 {
				break
			}
			got, moved = got+n, true
		}
		if moved {
			idle = 0
			continue
		}
		if idle++; idle > 5000 {
			return fmt.Errorf("only %d of %d bytes came", got, burst)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// fill sends on all connections until no socket accepts any more bytes, and none has for a while.
func fill(senders []int, size int) (d did) {
	b := newBatch(size)
	for quiet, i := 0, 0; quiet < 3 && i < 200; i++ {
		before := d.Sent
		d.Held = 0
		for _, fd := range senders {
			b.untilHeld(fd, &d)
		}
		if quiet++; d.Sent != before {
			quiet = 0
		}
		time.Sleep(100 * time.Millisecond)
	}
	return d
}

// messages is the argument of sendmmsg(2), which x/sys does not have: the same message many times.
type messages struct {
	size   int
	iov    unix.Iovec
	vector [batch]struct {
		header unix.Msghdr
		taken  uint32
		_      [4]byte
	}
}

func newBatch(size int) *messages {
	m := &messages{size: size}
	m.iov.Base = unsafe.SliceData(make([]byte, size))
	m.iov.SetLen(size)
	for i := range m.vector {
		m.vector[i].header.Iov, m.vector[i].header.Iovlen = &m.iov, 1
	}
	return m
}

func (m *messages) untilHeld(fd int, d *did) {
	for taken := 0; taken < mostOfIt; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.vector)), batch,
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			d.Held++
			return
		case errno != 0:
			d.Errors++
			d.Errno = errno.Error()
			return
		}
		for _, v := range m.vector[:n] {
			taken += int(v.taken)
			d.Sent += int64(v.taken)
		}
		d.Sends += int64(n)
	}
}
