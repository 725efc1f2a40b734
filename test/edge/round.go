// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/conformance/place"
)

const (
	patience = 5 * time.Second       // a longer round counts as a hang
	busy     = 50 * time.Millisecond // busy elsewhere, at most
	buffer   = 1 << 20               // receive buffer of the reader: larger than one read
)

type cell struct{ burst, message, rounds int }

// size is the size of one burst. A reader hangs if the last bytes come over TCP and are few enough to arrive
// at once, which only some sizes cause.
func (c cell) size() int { return c.burst/2 + sizes.IntN(c.burst/2) + 1 }

// Each is used by one goroutine. The program makes the same choices in each run.
var (
	sizes = rand.New(rand.NewPCG(1, 0))
	pace  = rand.New(rand.NewPCG(2, 0))
)

// measured are the results of a cell. Delays are those of rounds that did not hang.
type measured struct {
	delays     []time.Duration
	hangs      int
	redirected float64 // share of the bytes
	reasons    string
}

// quantile is in ms; it is 0 if every round has hung.
func (m measured) quantile(q float64) float64 {
	if len(m.delays) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(m.delays))
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]) / float64(time.Millisecond)
}

// late counts the rounds that ended late, by the data path's own recovery, which takes up to a second.
func (m measured) late() (n int) {
	for _, d := range m.delays {
		if d > time.Second/2 {
			n++
		}
	}
	return n
}

// measure makes one connection for the cell.
func measure(ctx context.Context, ends place.Place, c cell, hangs int) (m measured, err error) {
	before, err := look(ends)
	if err != nil {
		return m, err
	}
	s, r, err := connect(ends)
	if err != nil {
		return m, err
	}
	err = rounds(ctx, c, hangs, s, r, &m)
	s.close()
	r.close()
	if err != nil {
		return m, err
	}
	after, err := look(ends)
	m.redirected, m.reasons = after.since(before)
	return m, err
}

// rounds runs the reader and the sender concurrently. The first that fails ends the other by shutting the
// connection down.
func rounds(ctx context.Context, c cell, hangs int, s *end, r *end, m *measured) error {
	begin, done := make(chan int), make(chan time.Time, 1)
	failed := make(chan error, 1)
	go func() {
		err := serve(r, begin, done, m)
		if err != nil {
			s.abort()
		}
		failed <- err
	}()
	var err error
	data := pattern(max(c.message, 1<<16) + len(filler))
	for i := 0; i < c.rounds && m.hangs < hangs && ctx.Err() == nil && err == nil; i++ {
		size := c.size()
		begin <- size
		err = s.burst(size, c.message, data)
		sent := time.Now()
		if err == nil {
			err = s.answer()
		}
		answered := time.Now()
		free := <-done
		switch {
		case free.IsZero(): // it hung, and was counted
		case free.After(sent):
			m.delays = append(m.delays, answered.Sub(free))
		default:
			m.delays = append(m.delays, answered.Sub(sent))
		}
	}
	if err != nil {
		r.abort()
	}
	close(begin)
	return errors.Join(err, <-failed)
}

// serve reads a burst each time that the sender begins one, and replies. It sends the time when it was free
// to read, or the zero time if it hung.
func serve(r *end, begin <-chan int, done chan<- time.Time, m *measured) error {
	buf, want := make([]byte, buffer), pattern(buffer+len(filler))
	for size := range begin {
		time.Sleep(time.Duration(pace.Int64N(int64(busy))))
		free := time.Now()
		got, err := r.awaitBurst(size, buf, want)
		if err == nil && got < size {
			m.hangs++
			free = time.Time{}
			err = r.rescue(got, size, buf, want)
		}
		if err == nil {
			_, err = unix.Write(r.fd, []byte{1})
		}
		done <- free
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitBurst waits for events and reads, until it has size bytes or hangs. After an event it reads until a
// call returns less than its buffer holds.
func (e *end) awaitBurst(size int, buf, want []byte) (got int, err error) {
	for last := time.Now().Add(patience); got < size; {
		told, err := e.wait(time.Until(last))
		if err != nil || !told {
			return got, err
		}
		for n := len(buf); n == len(buf); {
			n, err = e.read(got, buf, want)
			if err != nil {
				return got, err
			}
			got += n
		}
	}
	return got, nil
}

// rescue reads without an event.
func (e *end) rescue(got, size int, buf, want []byte) error {
	for last := time.Now().Add(patience); got < size; time.Sleep(time.Millisecond) {
		n, err := e.read(got, buf, want)
		if err != nil {
			return err
		}
		got += n
		if time.Now().After(last) {
			return fmt.Errorf("%d of %d bytes have come, and no others come", got, size)
		}
	}
	return nil
}

// read checks the bytes that one call returns. It returns 0 if there is nothing to read.
func (e *end) read(offset int, buf, want []byte) (int, error) {
	n, err := unix.Read(e.fd, buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read: %w", err)
	case n == 0:
		return 0, errors.New("read: the other end has closed")
	}
	if from := offset % len(filler); !bytes.Equal(buf[:n], want[from:from+n]) {
		return n, fmt.Errorf("bytes %d to %d of a burst are not those that were sent", offset, offset+n)
	}
	return n, nil
}

// burst sends a burst, message by message.
func (e *end) burst(size, message int, data []byte) error {
	for at := 0; at < size; {
		from := at % len(filler)
		n, err := unix.Write(e.fd, data[from:from+min(message, size-at)])
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := e.poll(unix.POLLOUT); err != nil {
				return err
			}
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("write: %w", err)
		default:
			at += max(0, n)
		}
	}
	return nil
}

func (e *end) answer() error {
	if err := e.poll(unix.POLLIN); err != nil {
		return fmt.Errorf("wait for answer: %w", err)
	}
	n, err := unix.Read(e.fd, make([]byte, 1))
	if err == nil && n != 1 {
		err = errors.New("the reader has closed")
	}
	return err
}

// filler's length is prime, so that missing or repeated bytes are noticed.
var filler = func() []byte {
	b, random := make([]byte, 65521), rand.New(rand.NewPCG(3, 0))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}()

// pattern repeats filler.
func pattern(size int) []byte { return bytes.Repeat(filler, size/len(filler)+1)[:size] }
