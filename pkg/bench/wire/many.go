// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// crowd is the client's side of many connections.
type crowd struct {
	e     *end
	o     Order
	conns []conn
	buf   []byte
	// By descriptor, small numbers: what has come of the answer, and when the request went.
	got   []int
	began []time.Duration
}

// connect makes all connections, with one request on each: caches are warm then, and readers known.
func (e *end) connect(o Order) (c *crowd, err error) {
	c = &crowd{e: e, o: o, buf: e.buffer(o.Size)}
	to, err := parse(o.Addr)
	if err != nil {
		return c, err
	}
	for range o.Conns {
		one, err := dial(o, to, &e.w)
		if err != nil {
			return c, err
		}
		c.conns = append(c.conns, one)
		if err := one.exchange(c.buf); err != nil {
			return c, err
		}
		for len(c.got) <= one.fd {
			c.got, c.began = append(c.got, 0), append(c.began, 0)
		}
	}
	return c, nil
}

func (c *crowd) close() {
	for _, one := range c.conns {
		one.close()
	}
}

func (e *end) many(o Order) (a Answer, err error) {
	c, err := e.connect(o)
	defer c.close()
	if err != nil {
		return a, err
	}
	r, err := newReady(&e.w)
	if err != nil {
		return a, err
	}
	defer r.close()
	for _, one := range c.conns {
		if err := r.add(one.fd); err != nil {
			return a, fmt.Errorf("add to epoll: %w", err)
		}
	}
	exchanged, err := c.talk(r, &a)
	if err != nil {
		return a, err
	}
	a.Sent = (exchanged + uint64(o.Conns)) * uint64(o.Size)
	a.Got = a.Sent
	for _, one := range c.conns {
		a.TCP += one.byTCP()
	}
	return a, nil
}

// talk keeps one request outstanding on each connection until the time is over, and takes the last answers.
func (c *crowd) talk(r *ready, a *Answer) (exchanged uint64, err error) {
	clock := clock(time.Now())
	begin, end := c.o.Warm, c.o.Warm+c.o.Time
	times := c.e.times[:0]
	for _, one := range c.conns {
		c.began[one.fd] = clock.now()
		if err := one.writeAll(c.buf); err != nil {
			return 0, err
		}
	}
	for outstanding := len(c.conns); outstanding > 0; {
		events, err := r.wait()
		if err != nil {
			return exchanged, err
		}
		for _, ev := range events {
			one := conn{int(ev.Fd), &c.e.w}
			done, err := c.take(one)
			if err != nil {
				return exchanged, err
			}
			if !done {
				continue
			}
			exchanged++
			now := clock.now()
			if now >= begin && now < end {
				times = append(times, now-c.began[one.fd])
			}
			if now >= end {
				outstanding--
				continue
			}
			c.began[one.fd] = now
			if err := one.writeAll(c.buf); err != nil {
				return exchanged, err
			}
		}
	}
	c.e.times = times
	a.Count, a.Elapsed = uint64(len(times)), c.o.Time
	a.percentiles(times)
	return exchanged, nil
}

// take reads once, and reports whether an answer is complete.
func (c *crowd) take(one conn) (bool, error) {
	n, e := readOnce(one.fd, c.buf[:len(c.buf)-c.got[one.fd]])
	switch {
	case e == unix.EAGAIN || e == unix.EINTR:
		return false, nil
	case e != 0:
		return false, fmt.Errorf("read: %w", e)
	case n == 0:
		return false, fmt.Errorf("read: %w", io.ErrUnexpectedEOF)
	}
	if c.got[one.fd] += n; c.got[one.fd] < c.o.Size {
		return false, nil
	}
	c.got[one.fd] = 0
	return true, nil
}

// idle holds the connections until the next order. They end by reset, so that none stays behind in TIME_WAIT,
// whose memory would count as that of the next.
func (e *end) idle(o Order, answer func(Answer) error, next func() error) (a Answer, err error) {
	c, err := e.connect(o)
	defer c.close()
	if err != nil {
		return a, err
	}
	a.Count = uint64(len(c.conns))
	a.Sent = a.Count * uint64(o.Size)
	a.Got = a.Sent
	if err := errors.Join(answer(a), next()); err != nil {
		return a, err
	}
	for _, one := range c.conns {
		linger := &unix.Linger{Onoff: 1}
		if err := unix.SetsockoptLinger(one.fd, unix.SOL_SOCKET, unix.SO_LINGER, linger); err != nil {
			return a, fmt.Errorf("set SO_LINGER: %w", err)
		}
	}
	return a, nil
}
