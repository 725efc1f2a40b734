// SPDX-License-Identifier: Apache-2.0

package crowd

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// server is the process that accepts connections and echoes.
type server struct {
	mu   sync.Mutex
	fds  map[int]bool
	last int64 // time at which the last one was accepted
}

func (s *server) do(o order) (answer, error) {
	switch {
	case o.Listen != "":
		return s.listen(o.Listen, o.Room)
	case o.Await > 0:
		return s.await(o.Await)
	case o.Hangup:
		return answer{}, s.hangup()
	}
	return answer{}, fmt.Errorf("a server does not understand %+v", o)
}

func (s *server) listen(addr string, room int) (answer, error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil || !ip.Is4() {
		return answer{}, fmt.Errorf("%q is no IPv4 address: %w", addr, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return answer{}, fmt.Errorf("make socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: ip.As4()})
	if err := errors.Join(err, unix.Listen(fd, room)); err != nil {
		return answer{}, fmt.Errorf("listen on %s: %w", ip, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return answer{}, err
	}
	s.fds = make(map[int]bool, room)
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = watch(epoll, fd)
	}
	if err != nil {
		return answer{}, fmt.Errorf("watch listener: %w", err)
	}
	go func() {
		if err := s.serve(epoll, fd); err != nil {
			fmt.Fprintln(os.Stderr, "crowd:", err)
			os.Exit(1)
		}
	}()
	port := name.(*unix.SockaddrInet4).Port
	return answer{Address: netip.AddrPortFrom(ip, uint16(port)).String()}, nil
}

func watch(epoll, fd int) error {
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// serve runs until the process ends.
func (s *server) serve(epoll, listener int) error {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == listener {
				err = s.accept(epoll, listener)
			} else {
				s.echo(int(e.Fd))
			}
			if err != nil {
				return err
			}
		}
	}
}

func (s *server) accept(epoll, listener int) error {
	for range 256 {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return fmt.Errorf("accept connection %d: %w", len(s.fds)+1, err)
		}
		if err := watch(epoll, fd); err != nil {
			return fmt.Errorf("watch connection: %w", err)
		}
		s.mu.Lock()
		s.fds[fd] = true
		s.last = now()
		s.mu.Unlock()
	}
	return nil
}

// echo sends received bytes back. It closes a connection at its end.
func (s *server) echo(fd int) {
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if n > 0 {
		// So few bytes always fit into the send buffer.
		if sent, err := unix.Write(fd, buf[:n]); err == nil && sent == n {
			return
		}
	}
	s.close(fd)
}

// close ignores a descriptor that it does not know: its number may belong to another file by now.
func (s *server) close(fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fds[fd] {
		delete(s.fds, fd)
		unix.Close(fd)
	}
}

// await waits until there are n connections.
func (s *server) await(n int) (answer, error) {
	for end := time.Now().Add(patience / 2); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		a := answer{Open: len(s.fds), At: s.last}
		s.mu.Unlock()
		if a.Open == n {
			return a, nil
		}
		if time.Now().After(end) {
			return a, fmt.Errorf("%d connections were accepted, %d made", a.Open, n)
		}
	}
}

// hangup waits until the resets of all clients have come, and closes the rest.
func (s *server) hangup() error {
	for end := time.Now().Add(patience / 2); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		left := len(s.fds)
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d connections are still open, although their clients have reset them", left)
		}
	}
}
