// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"slices"
	"time"
)

// clock is monotonic, and cheaper to ask than time.Now.
type clock time.Time

func (c clock) now() time.Duration { return time.Since(time.Time(c)) }

// spin computes for so long.
func spin(d time.Duration) {
	if d == 0 {
		return
	}
	for begin := time.Now(); time.Since(begin) < d; {
	}
}

// exchange sends a request and reads its answer. It polls before it reads, as event loops do, because the
// answer is rarely there already.
func (c conn) exchange(buf []byte) error {
	if err := c.writeAll(buf); err != nil {
		return err
	}
	if err := c.await(); err != nil {
		return err
	}
	return c.readAll(buf)
}

// dial makes the one connection of an order.
func (e *end) dial(o Order) (c conn, err error) {
	to, err := parse(o.Addr)
	if err != nil {
		return c, err
	}
	return dial(o, to, &e.w)
}

func (e *end) requests(o Order) (a Answer, err error) {
	c, err := e.dial(o)
	if err != nil {
		return a, err
	}
	defer c.close()
	buf := e.buffer(o.Size)
	clock := clock(time.Now())
	warmed := uint64(0)
	for clock.now() < o.Warm {
		if err := c.exchange(buf); err != nil {
			return a, err
		}
		warmed++
	}
	busy := e.startBusy(o)
	times := e.times[:0]
	begin := clock.now()
	last := begin
	// The clock is read once for each request: the end of one is the begin of the next.
	for end := begin + o.Time; last < end; {
		if err := c.exchange(buf); err != nil {
			return a, err
		}
		now := clock.now()
		times = append(times, now-last)
		last = now
	}
	a.Busy = busy()
	e.times = times
	a.Count, a.Elapsed = uint64(len(times)), last-begin
	a.percentiles(times)
	a.Sent = (a.Count + warmed) * uint64(o.Size)
	a.Got = a.Sent
	a.TCP = c.byTCP()
	return a, nil
}

// percentiles sorts times. Each percentile is the least time that this share of them does not exceed.
func (a *Answer) percentiles(times []time.Duration) {
	slices.Sort(times)
	a.P50, a.P99, a.P999 = rank(times, 500), rank(times, 990), rank(times, 999)
}

func rank(sorted []time.Duration, permille int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(1, (len(sorted)*permille+999)/1000)-1]
}

// serveRequests answers on one connection until its end.
func (e *end) serveRequests(listener int, o Order) (a Answer, err error) {
	c, err := accept(listener, &e.w)
	if err != nil {
		return a, err
	}
	defer c.close()
	buf := e.buffer(o.Size)
	for {
		if err := c.await(); err != nil {
			return a, err
		}
		if err := c.readBy(o.Take, buf); errors.Is(err, io.EOF) {
			a.Sent, a.Got = a.Count*uint64(o.Size), a.Count*uint64(o.Size)
			a.TCP = c.byTCP()
			return a, nil
		} else if err != nil {
			return a, err
		}
		spin(o.Spin)
		if err := c.writeAll(buf); err != nil {
			return a, err
		}
		a.Count++
	}
}
