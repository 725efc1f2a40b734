// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// client is the process that connects.
type client struct {
	to  unix.SockaddrInet4
	fds []int
}

func (c *client) do(o order) (answer, error) {
	switch {
	case o.Connect != "":
		to, err := netip.ParseAddrPort(o.Connect)
		if err != nil || !to.Addr().Is4() {
			return answer{}, fmt.Errorf("%q is no IPv4 address and port: %w", o.Connect, err)
		}
		c.to = unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
		c.fds = make([]int, 0, o.Room)
		return answer{}, nil
	case o.Dial > 0:
		a := answer{From: now()}
		err := c.dial(o.Dial)
		a.At, a.Open = now(), len(c.fds)
		return a, err
	case o.Ask:
		return c.askAll(), nil
	case o.Hangup:
		err := c.beWorthIt()
		for _, fd := range c.fds {
			unix.Close(fd)
		}
		c.fds = c.fds[:0]
		return answer{}, err
	}
	return answer{}, fmt.Errorf("a client does not understand %+v", o)
}

func (c *client) dial(n int) error {
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make socket %d: %w", len(c.fds)+1, err)
		}
		c.fds = append(c.fds, fd)
		if err := unix.Connect(fd, &c.to); err != nil {
			return fmt.Errorf("connect socket %d: %w", len(c.fds), err)
		}
		err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		if err := errors.Join(err, unix.SetNonblock(fd, true)); err != nil {
			return err
		}
	}
	return nil
}

const (
	requestBytes = 64
	// answerTime is longer than TCP needs to retransmit twice.
	answerTime = 3 * time.Second
)

func (c *client) askAll() answer {
	a := answer{Open: len(c.fds)}
	for i, fd := range c.fds {
		if err := ask(fd, byte(i)); err != nil {
			if a.Failed++; a.Failed == 1 {
				a.Why = err.Error()
			}
			if a.Failed > 20 { // each failure takes answerTime
				a.Failed += len(c.fds) - i - 1
				a.Why += "; the rest was not asked"
				break
			}
		}
	}
	return a
}

// Of each hundred connections one makes some requests before it ends. Destinations whose connections never
// gained anything would stay on TCP (docs/adr/0011), which is not what a crowd measures.
const (
	worthEvery = 100
	worthAsks  = 5
)

func (c *client) beWorthIt() error {
	for i := 0; i < len(c.fds); i += worthEvery {
		for range worthAsks {
			if err := ask(c.fds[i], 1); err != nil {
				return fmt.Errorf("before the end: %w", err)
			}
		}
	}
	return nil
}

func ask(fd int, mark byte) error {
	request := bytes.Repeat([]byte{mark}, requestBytes)
	if n, err := unix.Write(fd, request); err != nil || n != requestBytes {
		return fmt.Errorf("sent %d of %d bytes: %w", max(n, 0), requestBytes, err)
	}
	got := make([]byte, 0, requestBytes)
	for len(got) < requestBytes {
		if err := await(fd, unix.POLLIN, answerTime); err != nil {
			return err
		}
		n, err := unix.Read(fd, got[len(got):requestBytes])
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return fmt.Errorf("read: %w", io.ErrUnexpectedEOF)
		default:
			got = got[:len(got)+n]
		}
	}
	if !bytes.Equal(got, request) {
		return errors.New("other bytes came back")
	}
	return nil
}
