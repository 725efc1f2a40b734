// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A Stream describes the bytes that go one way, and how they are divided into calls.
type Stream struct {
	Seed  uint32
	Bytes uint64 // to send; when receiving: expected number, 0 = any
	Chunk int    // bytes per call, 64 KiB if 0
	Vary  bool   // calls of 1 to Chunk bytes, of varying but reproducible sizes
}

func (s Stream) chunks() (buf []byte, size func() int) {
	if s.Chunk == 0 {
		s.Chunk = 64 << 10
	}
	buf = make([]byte, s.Chunk)
	if !s.Vary {
		return buf, func() int { return s.Chunk }
	}
	rng := rand.New(rand.NewPCG(uint64(s.Seed), uint64(s.Chunk)))
	return buf, func() int { return 1 + rng.IntN(s.Chunk) }
}

// A Transfer describes the bytes that went one way.
type Transfer struct {
	Bytes   uint64        `json:"bytes"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

// BytesPerSecond is 0 for a transfer whose time is 0.
func (t Transfer) BytesPerSecond() float64 {
	if t.Elapsed <= 0 {
		return 0
	}
	return float64(t.Bytes) / t.Elapsed.Seconds()
}

// Send writes the stream to c and does not close it. The time ends when the kernel has accepted the last
// byte.
func Send(ctx context.Context, c net.Conn, s Stream) (Transfer, error) {
	return send(ctx, c, NewPattern(s.Seed), s)
}

// send continues a stream.
func send(ctx context.Context, c net.Conn, p *Pattern, s Stream) (Transfer, error) {
	ctx, release := bind(ctx, c)
	defer release()
	buf, size := s.chunks()
	start := time.Now()
	var t Transfer
	for t.Bytes < s.Bytes {
		b := buf[:min(uint64(size()), s.Bytes-t.Bytes)]
		p.Fill(b)
		n, err := c.Write(b)
		t.Bytes += uint64(n)
		if err != nil {
			return t, because(ctx, fmt.Errorf("send after %d bytes: %w", t.Bytes, err))
		}
	}
	t.Elapsed = time.Since(start)
	return t, nil
}

// Receive reads c up to its end and checks that it received exactly the stream: all bytes in order, and
// s.Bytes of them. The time begins with the first byte.
func Receive(ctx context.Context, c net.Conn, s Stream) (Transfer, error) {
	return receive(ctx, c, s, func([]byte) (*Pattern, error) { return NewPattern(s.Seed), nil })
}

// ReceiveAny is Receive for a stream with an unknown seed.
func ReceiveAny(ctx context.Context, c net.Conn, s Stream) (seed uint32, t Transfer, err error) {
	t, err = receive(ctx, c, s, func(first []byte) (p *Pattern, err error) {
		var ok bool
		if seed, ok = SeedOf(first); !ok {
			return nil, fmt.Errorf("recognise a stream: it begins with % x", first)
		}
		return NewPattern(seed), nil
	})
	return seed, t, err
}

// receive reads the first eight bytes before it calls pattern.
func receive(ctx context.Context, c net.Conn, s Stream,
	pattern func([]byte) (*Pattern, error)) (Transfer, error) {
	ctx, release := bind(ctx, c)
	defer release()
	buf, size := s.chunks()
	var head [8]byte
	n, err := io.ReadFull(c, head[:])
	start := time.Now()
	if n == 0 && errors.Is(err, io.EOF) {
		return Transfer{}, arrived(0, s)
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return Transfer{}, because(ctx, fmt.Errorf("receive: %w", err))
	}
	p, perr := pattern(head[:n])
	if perr != nil {
		return Transfer{Bytes: uint64(n)}, perr
	}
	b := head[:n]
	for {
		if err := p.Check(b); err != nil {
			return Transfer{Bytes: p.Offset()}, err
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return Transfer{p.Offset(), time.Since(start)}, arrived(p.Offset(), s)
		}
		if err != nil {
			return Transfer{Bytes: p.Offset()}, because(ctx, fmt.Errorf("receive after %d bytes: %w", p.Offset(), err))
		}
		n, err = c.Read(buf[:size()])
		b = buf[:n]
	}
}

func arrived(n uint64, s Stream) error {
	if s.Bytes != 0 && n != s.Bytes {
		return fmt.Errorf("receive stream %d: ended after %d of %d bytes", s.Seed, n, s.Bytes)
	}
	return nil
}

// OneWay sends s from one end of a connection to the other, closes the write side and checks the bytes that
// arrive. It returns the receiver's Transfer.
func OneWay(ctx context.Context, from, to net.Conn, s Stream) (Transfer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sendErr error
	var sender sync.WaitGroup
	sender.Go(func() {
		_, sendErr = Send(ctx, from, s)
		if sendErr == nil {
			sendErr = closeWrite(from)
		}
		if sendErr != nil {
			cancel(sendErr) // so that the receiver does not wait for the end
		}
	})
	t, err := Receive(ctx, to, s)
	if err != nil {
		cancel(err)
	}
	sender.Wait()
	return t, errors.Join(err, sendErr)
}

// Duplex does OneWay in both directions at once. The direction from b to a has the seed s.Seed+1.
func Duplex(ctx context.Context, a, b net.Conn, s Stream) (ab, ba Transfer, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var errAB, errBA error
	var both sync.WaitGroup
	both.Go(func() {
		if ab, errAB = OneWay(ctx, a, b, s); errAB != nil {
			cancel(errAB)
		}
	})
	both.Go(func() {
		back := s
		back.Seed++
		if ba, errBA = OneWay(ctx, b, a, back); errBA != nil {
			cancel(errBA)
		}
	})
	both.Wait()
	return ab, ba, errors.Join(errAB, errBA)
}
