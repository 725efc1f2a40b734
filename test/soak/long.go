// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// longest bounds a lasting conversation. The rest until limit is for its last messages on a busy machine.
const longest = 30 * time.Second

// lasting continues while refreshes are due, policies change and the switch is turned: small and large
// messages, in one direction or both at once, with pauses.
func lasting(ctx context.Context, rng *rand.Rand, client, server net.Conn) (total uint64, err error) {
	end := time.Now().Add(2*time.Second + rand.N(longest))
	there, back := newDirection(rng, client, server), newDirection(rng, server, client)
	for ctx.Err() == nil && time.Now().Before(end) {
		most := 2000
		if rng.IntN(8) == 0 {
			most = 1 << 20
		}
		var both errgroup.Group
		way := rng.IntN(3)
		if way != 1 {
			n := size(rng, most)
			total += uint64(n)
			there.carry(&both, n)
		}
		if way != 0 {
			n := size(rng, most)
			total += uint64(n)
			back.carry(&both, n)
		}
		if err := both.Wait(); err != nil {
			return total, err
		}
		if rng.IntN(4) == 0 {
			sleep(ctx, time.Duration(rng.IntN(50))*time.Millisecond)
		}
	}
	return total, nil
}

// direction is the data that one end sends to the other.
type direction struct {
	from, to net.Conn
	out, in  *traffic.Pattern
	buf      []byte
}

func newDirection(rng *rand.Rand, from, to net.Conn) *direction {
	seed := rng.Uint32()
	return &direction{from: from, to: to, out: traffic.NewPattern(seed), in: traffic.NewPattern(seed)}
}

// carry sends n bytes in messages of one size, and checks them.
func (d *direction) carry(both *errgroup.Group, n int) {
	message := make([]byte, max(1, min(n, 16<<10)))
	both.Go(func() error {
		for left := n; left > 0; left -= len(message) {
			message = message[:min(len(message), left)]
			d.out.Fill(message)
			if _, err := d.from.Write(message); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		return nil
	})
	both.Go(func() error {
		if cap(d.buf) < n {
			d.buf = make([]byte, n)
		}
		got, err := io.ReadFull(d.to, d.buf[:n])
		if wrong := d.in.Check(d.buf[:got]); wrong != nil {
			return wrong
		}
		if err != nil {
			return fmt.Errorf("read %d of %d bytes: %w", got, n, err)
		}
		return nil
	})
}
