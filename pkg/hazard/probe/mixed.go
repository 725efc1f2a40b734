// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// edges is an edge-triggered epoll set with one descriptor in it.
type edges int

func watch(fd int) (edges, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("make epoll: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		unix.Close(ep)
		return 0, fmt.Errorf("watch reader: %w", err)
	}
	return edges(ep), nil
}

func (e edges) close() { unix.Close(int(e)) }

// came reports whether an edge comes within the limit. Go's own signals interrupt the wait.
func (e edges) came(limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); ; {
		ms := max(0, int(time.Until(end)/time.Millisecond))
		n, err := unix.EpollWait(int(e), make([]unix.EpollEvent, 1), ms)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// onlyTCP sends all further bytes to a socket over TCP, by asking for time stamps of their arrival.
func onlyTCP(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1); err != nil {
		return fmt.Errorf("set SO_TIMESTAMP: %w", err)
	}
	return nil
}

const (
	mixedRedirected = 10 // bytes in the queue of redirected messages
	mixedByTCP      = 20 // bytes in the queue of TCP
)

// probeMixedEdge has redirected bytes and bytes over TCP wait for the same reader. One read returns only the
// redirected ones, so the BPF programs have to wake the reader again for the others. They do so when the
// reader's socket sends its next segment, and turn keepalive on, so that it sends one. Here the reader sends
// a segment itself, because a keepalive probe takes a second.
func probeMixedEdge() (outcome, error) {
	return on(func(p pair) (outcome, error) {
		e, err := watch(p.reader)
		if err != nil {
			return outcome{}, err
		}
		defer e.close()
		err = errors.Join(p.write(mixedRedirected), onlyTCP(p.reader), p.write(mixedByTCP))
		if err != nil {
			return outcome{}, err
		}
		probed, err := p.keepsAlive(2 * wait)
		if err != nil {
			return outcome{}, err
		}
		if _, err := e.came(0); err != nil {
			return outcome{}, fmt.Errorf("wait for event: %w", err)
		}
		n, err := unix.Read(p.reader, make([]byte, 4096))
		if err != nil {
			return outcome{}, fmt.Errorf("read: %w", err)
		}
		if n == mixedRedirected+mixedByTCP {
			return fine("one read returns redirected bytes and bytes over TCP"), nil
		}
		woken, err := p.wokenAgain(e)
		switch {
		case err != nil:
			return outcome{}, err
		case !woken:
			return bad("no event for %d bytes over TCP after a read of %d redirected ones", mixedByTCP, n), nil
		case !probed:
			return bad("no keepalive probe while %d redirected bytes wait before %d over TCP", mixedRedirected,
				mixedByTCP), nil
		}
		return fine("an event for %d bytes over TCP after a read of %d redirected ones", mixedByTCP, n), nil
	})
}

// keepsAlive reports whether the reader's keepalive is turned on within the limit. An acknowledgement turns
// it on, and the kernel may delay that one.
func (p pair) keepsAlive(limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		on, err := unix.GetsockoptInt(p.reader, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		if err != nil {
			return false, fmt.Errorf("ask for SO_KEEPALIVE: %w", err)
		}
		if on != 0 || time.Now().After(end) {
			return on != 0, nil
		}
	}
}

// wokenAgain lets the reader's socket send a segment, and reports whether an event comes.
func (p pair) wokenAgain(e edges) (bool, error) {
	if err := onlyTCP(p.writer); err != nil {
		return false, err
	}
	if _, err := unix.Write(p.reader, []byte{1}); err != nil {
		return false, fmt.Errorf("write back: %w", err)
	}
	woken, err := e.came(wait)
	if err != nil {
		return false, fmt.Errorf("wait for event: %w", err)
	}
	return woken, nil
}
