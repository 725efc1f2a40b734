// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"time"
)

// churn makes a connection for each request. The last one sends nothing: the server ends then.
func (e *end) churn(o Order) (a Answer, err error) {
	if err := widenPorts(); err != nil {
		return a, err
	}
	to, err := parse(o.Addr)
	if err != nil {
		return a, err
	}
	buf := e.buffer(o.Size)
	one := func() error {
		c, err := dial(o, to, &e.w)
		if err != nil {
			return err
		}
		defer c.close()
		a.Sent += uint64(o.Size)
		return c.exchange(buf)
	}
	clock := clock(time.Now())
	for clock.now() < o.Warm {
		if err := one(); err != nil {
			return a, err
		}
	}
	times := e.times[:0]
	begin := clock.now()
	last := begin
	for end := begin + o.Time; last < end; {
		if err := one(); err != nil {
			return a, err
		}
		now := clock.now()
		times = append(times, now-last)
		last = now
	}
	e.times = times
	a.Count, a.Elapsed = uint64(len(times)), last-begin
	a.percentiles(times)
	a.Got = a.Sent
	c, err := dial(o, to, &e.w)
	if err != nil {
		return a, err
	}
	c.close()
	return a, nil
}

// serveChurn closes after its client, so that TIME_WAIT stays with the client.
func (e *end) serveChurn(listener int, o Order) (a Answer, err error) {
	buf := e.buffer(o.Size)
	for {
		c, err := accept(listener, &e.w)
		if err != nil {
			return a, err
		}
		answered, err := answerOne(c, buf)
		c.close()
		if err != nil {
			return a, err
		}
		if !answered {
			return a, nil
		}
		a.Count++
		a.Sent += uint64(o.Size)
		a.Got += uint64(o.Size)
	}
}

// answerOne reports false for a connection that ends without a request.
func answerOne(c conn, buf []byte) (bool, error) {
	if err := c.await(); err != nil {
		return false, err
	}
	if err := c.readAll(buf); errors.Is(err, io.EOF) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := c.writeAll(buf); err != nil {
		return false, err
	}
	if err := c.await(); err != nil {
		return false, err
	}
	if _, err := c.readSome(buf); !errors.Is(err, io.EOF) {
		return false, errors.Join(errors.New("more came than one request"), err)
	}
	return true, nil
}
