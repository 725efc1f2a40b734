// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

// end is a non-blocking socket with an epoll set that contains it.
type end struct{ fd, ep int }

func newEnd(fd int) (*end, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET}
	return &end{fd, ep}, errors.Join(unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &event),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}

func (e *end) close() {
	unix.Close(e.fd)
	unix.Close(e.ep)
}

// abort makes each call on the connection return, at both ends.
func (e *end) abort() { _ = unix.Shutdown(e.fd, unix.SHUT_RDWR) }

// wait reports whether an event came in time.
func (e *end) wait(limit time.Duration) (bool, error) {
	for last := time.Now().Add(limit); ; {
		ms := max(0, int(time.Until(last)/time.Millisecond))
		n, err := unix.EpollWait(e.ep, make([]unix.EpollEvent, 1), ms)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// poll waits for longer than a round with its rescue takes.
func (e *end) poll(events int16) error {
	for last := time.Now().Add(3 * patience); ; {
		ms := max(0, int(time.Until(last)/time.Millisecond))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(e.fd), Events: events}}, ms)
		switch {
		case errors.Is(err, unix.EINTR):
		case err == nil && n == 0:
			return errors.New("nothing happens")
		default:
			return err
		}
	}
}

// connect makes a connection. Both ends have sent data when it returns, so that later data is redirected.
func connect(ends place.Place) (sender, reader *end, err error) {
	l, addr, err := listen(ends)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(l)
	fd, err := dial(ends, addr)
	if err != nil {
		return nil, nil, err
	}
	accepted, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("accept: %w", err)
	}
	if sender, err = newEnd(fd); err != nil {
		return nil, nil, err
	}
	if reader, err = newEnd(accepted); err != nil {
		return nil, nil, err
	}
	for range 3 {
		for _, way := range [][2]*end{{sender, reader}, {reader, sender}} {
			if _, err := unix.Write(way[0].fd, []byte{1}); err != nil {
				return nil, nil, err
			}
			if err := way[1].answer(); err != nil {
				return nil, nil, err
			}
		}
	}
	_, err = reader.wait(0)
	return sender, reader, err
}

// listen returns a socket of the server on a port that the kernel chooses.
func listen(ends place.Place) (fd int, addr unix.Sockaddr, err error) {
	if fd, err = ends.Socket(place.Server, unix.AF_INET, unix.SOCK_STREAM, 0); err != nil {
		return 0, nil, fmt.Errorf("make listener: %w", err)
	}
	local := &unix.SockaddrInet4{Addr: ends.Addr(place.Server).As4()}
	if err := errors.Join(unix.Bind(fd, local), unix.Listen(fd, 64)); err != nil {
		return 0, nil, fmt.Errorf("listen: %w", err)
	}
	addr, err = unix.Getsockname(fd)
	return fd, addr, err
}

// dial connects a socket of the client. It is non-blocking, because guards distinguish blocking readers.
func dial(ends place.Place, addr unix.Sockaddr) (fd int, err error) {
	if fd, err = ends.Socket(place.Client, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0); err != nil {
		return 0, fmt.Errorf("make socket: %w", err)
	}
	if err := unix.Connect(fd, addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return 0, fmt.Errorf("connect: %w", err)
	}
	return fd, (&end{fd: fd}).poll(unix.POLLOUT)
}

// counts are the counts of the data path.
type counts struct {
	place.Bytes
	changes map[datapath.Reason]uint64
}

func look(ends place.Place) (c counts, err error) {
	time.Sleep(50 * time.Millisecond) // the last sockets close
	if c.Bytes, err = ends.Carried(); err != nil {
		return c, err
	}
	err = ends.Steer(func(d *datapath.Datapath, cookie uint64) error {
		all, err := d.Totals()
		c.changes = all[cookie].Fallbacks
		return err
	})
	return c, err
}

// since returns the share of the bytes that were redirected, and how often the flow fell back for each
// reason.
func (c counts) since(before counts) (share float64, reasons string) {
	var all []string
	for reason, n := range c.changes {
		if n -= before.changes[reason]; n > 0 {
			all = append(all, fmt.Sprintf("%s %d", reason, n))
		}
	}
	sort.Strings(all)
	redirected, tcp := c.Redirected-before.Redirected, c.TCP-before.TCP
	return float64(redirected) / max(1, float64(redirected+tcp)), strings.Join(all, ", ")
}
