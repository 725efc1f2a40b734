// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Requests describes requests to an [Echo] server.
type Requests struct {
	Seed  uint32
	Size  int // bytes of a request, 64 if 0
	Count int // 1 if 0
}

func (r Requests) orDefaults() Requests {
	if r.Size == 0 {
		r.Size = 64
	}
	if r.Count == 0 {
		r.Count = 1
	}
	return r
}

// RequestResponse sends requests over c one after the other, checks that each comes back unchanged, and does
// not close c.
func RequestResponse(ctx context.Context, c net.Conn, r Requests) (Latencies, error) {
	r = r.orDefaults()
	ctx, release := bind(ctx, c)
	defer release()
	out, in := NewPattern(r.Seed), NewPattern(r.Seed)
	request, reply := make([]byte, r.Size), make([]byte, r.Size)
	lat := make(Latencies, 0, r.Count)
	for i := range r.Count {
		out.Fill(request)
		start := time.Now()
		if _, err := c.Write(request); err != nil {
			return lat, because(ctx, fmt.Errorf("send request %d: %w", i, err))
		}
		if _, err := io.ReadFull(c, reply); err != nil {
			return lat, because(ctx, fmt.Errorf("receive reply %d: %w", i, err))
		}
		lat = append(lat, time.Since(start))
		if err := in.Check(reply); err != nil {
			return lat, fmt.Errorf("reply %d: %w", i, err)
		}
	}
	return lat, nil
}

// A Dial makes a connection to an [Echo] server.
type Dial func(ctx context.Context) (net.Conn, error)

// ShortConns connects, sends one request, checks the answer, checks that nothing follows it, and closes:
// r.Count times in all, distributed over the dials, each of which is used by one goroutine. Every connection
// has its own seed, from r.Seed upwards, so that a byte of another connection is recognised. A latency is the
// time from connect to close. ShortConns ends at the first error.
func ShortConns(ctx context.Context, dials []Dial, r Requests) (Latencies, error) {
	r = r.orDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first sync.Once
	var firstErr error
	lat := make(Latencies, r.Count)
	var taken, done atomic.Int64
	var workers sync.WaitGroup
	for _, dial := range dials {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := taken.Add(1) - 1
				if i >= int64(r.Count) {
					return
				}
				start := time.Now()
				if err := shortConn(ctx, dial, r.Seed+uint32(i), r.Size); err != nil {
					first.Do(func() { firstErr = fmt.Errorf("short connection %d: %w", i, err) })
					cancel()
					return
				}
				lat[i] = time.Since(start)
				done.Add(1)
			}
		})
	}
	workers.Wait()
	if n := done.Load(); n < int64(r.Count) {
		if firstErr == nil {
			firstErr = context.Cause(ctx)
		}
		return nil, fmt.Errorf("after %d of %d connections: %w", n, r.Count, firstErr)
	}
	return lat, nil
}

func shortConn(ctx context.Context, dial Dial, seed uint32, size int) error {
	c, err := dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := RequestResponse(ctx, c, Requests{Seed: seed, Size: size}); err != nil {
		return err
	}
	if err := closeWrite(c); err != nil {
		return err
	}
	return expectEnd(ctx, c)
}

// expectEnd checks that the peer sends nothing more.
func expectEnd(ctx context.Context, c net.Conn) error {
	ctx, release := bind(ctx, c)
	defer release()
	var b [64]byte
	n, err := c.Read(b[:])
	if n > 0 {
		return fmt.Errorf("expect the end: %d more bytes: % x", n, b[:n])
	}
	if !errors.Is(err, io.EOF) {
		return because(ctx, fmt.Errorf("expect the end: %w", err))
	}
	return nil
}
