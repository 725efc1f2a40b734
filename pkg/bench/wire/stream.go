// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"time"
)

// readBuffer is the size of a stream reader's buffer; a slow reader takes less.
const (
	readBuffer     = 256 << 10
	slowReadBuffer = 64 << 10
)

// write writes as fast as the reader allows. The reader measures the rate.
func (e *end) write(o Order) (a Answer, err error) {
	c, err := e.dial(o)
	if err != nil {
		return a, err
	}
	defer c.close()
	buf := e.buffer(o.Size)
	clock := clock(time.Now())
	// Reading the clock costs a good part of a small write, so it is not read for each.
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

// sink reads a stream to its end. Bytes of the warm-up do not count; bytes that are unread when the writer
// has ended do.
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
