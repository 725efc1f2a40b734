// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hall is the server's side of many connections.
type hall struct {
	e        *end
	o        Order
	listener int
	r        *ready
	buf      []byte
	got      []int // by descriptor
	closed   int
	a        Answer
}

// serveMany answers until the ordered number of connections has come and gone.
func (e *end) serveMany(listener int, o Order) (a Answer, err error) {
	r, err := newReady(&e.w)
	if err != nil {
		return a, err
	}
	defer r.close()
	h := &hall{e: e, o: o, listener: listener, r: r, buf: e.buffer(o.Size)}
	if err := r.add(listener); err != nil {
		return a, fmt.Errorf("add to epoll: %w", err)
	}
	for h.closed < o.Conns {
		events, err := r.wait()
		if err != nil {
			return h.a, err
		}
		for _, ev := range events {
			if int(ev.Fd) == listener {
				err = h.admit()
			} else {
				err = h.attend(conn{int(ev.Fd), &e.w})
			}
			if err != nil {
				return h.a, err
			}
		}
	}
	return h.a, nil
}

// admit takes one connection; more of them make epoll report the listener again.
func (h *hall) admit() error {
	fd, e := acceptOnce(h.listener)
	if e == unix.EAGAIN || e == unix.EINTR {
		return nil
	}
	if e != 0 {
		return fmt.Errorf("accept: %w", e)
	}
	for len(h.got) <= fd {
		h.got = append(h.got, 0)
	}
	h.got[fd] = 0
	if err := h.r.add(fd); err != nil {
		return fmt.Errorf("add to epoll: %w", err)
	}
	return nil
}

func (h *hall) attend(c conn) error {
	n, e := readOnce(c.fd, h.buf[:h.o.Size-h.got[c.fd]])
	switch {
	case e == unix.EAGAIN || e == unix.EINTR:
		return nil
	case e == unix.ECONNRESET || e == 0 && n == 0:
		h.a.TCP += c.byTCP()
		c.close()
		h.closed++
		return nil
	case e != 0:
		return fmt.Errorf("read: %w", e)
	}
	h.a.Got += uint64(n)
	if h.got[c.fd] += n; h.got[c.fd] < h.o.Size {
		return nil
	}
	h.got[c.fd] = 0
	h.a.Count++
	h.a.Sent += uint64(h.o.Size)
	return c.writeAll(h.buf)
}
