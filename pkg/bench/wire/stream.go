// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"time"
)

// readBuffer is what a stream's reader has room for in one call; a slow one takes less.
const (
	readBuffer     = 256 << 10
	slowReadBuffer = 64 << 10
)

// write writes as fast as the reader lets it. How fast that was, the reader knows.
func (e *end) write(o Order) (a Answer, err error) {
	c, err := e.dial(o)
	if err != nil {
		return a, err
	}
	defer c.close()
	buf := e.buffer(o.Size)
	clock := clock(time.Now())
	// Asking for the time costs as much as a good part of a small write does.
	every := max(1, min(64, (16<<10)/o.Size))
	for end := o.Warm + o.Time; clock.now() < end; {
		for range every {
			if err := c.writeAll(buf); err != nil {
				return a, err
			}
			a.Sent += uint64(o.Size)
		}
	}
	a.TCP = c.byTCP()
	return a, nil
}

// sink reads a stream to its end. What came while it warmed up does not count; what waits when the writer has ended does.
func (e *end) sink(listener int, o Order) (a Answer, err error) {
	c, err := accept(listener, &e.w)
	if err != nil {
		return a, err
	}
	defer c.close()
	buf := e.buffer(readBuffer)
	if o.Pause > 0 {
		buf = buf[:slowReadBuffer]
	}
	clock := clock(time.Now())
	before, begin, warm := uint64(0), time.Duration(0), false
	busy := func() time.Duration { return 0 }
	for {
		n, err := c.readSome(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, err
		}
		a.Got += uint64(n)
		if !warm && clock.now() >= o.Warm {
			busy = e.startBusy(o)
			before, begin, warm = a.Got, clock.now(), true
		}
		if o.Pause > 0 {
			pause(o.Pause)
		}
		spin(o.Spin)
	}
	a.Busy = busy()
	a.Count, a.Elapsed = a.Got-before, clock.now()-begin
	return a, nil
}
