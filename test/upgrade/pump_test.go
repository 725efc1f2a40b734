// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// pump is traffic in both directions on one connection, with each byte checked, until it is stopped.
type pump struct {
	*testing.T
	client, server net.Conn
	from, to       *lab.Pod
	stopping       atomic.Bool
	moved          atomic.Uint64 // bytes from the client to the server
	both           sync.WaitGroup
	stop           func() // once: it ends the traffic, and closes both connections
}

// chunk is smaller than any buffer, so that both ends can be served one after the other.
const chunk = 16 << 10

// pump makes a connection between two pods and traffic on it.
func (w *world) pump(from, to *lab.Pod) *pump {
	w.Helper()
	p := &pump{T: w.T, from: from, to: to}
	p.client, p.server = w.connect(from, to)
	p.both.Go(func() { p.run(p.client, p.server, 1, &p.moved) })
	p.both.Go(func() { p.run(p.server, p.client, 2, new(atomic.Uint64)) })
	p.stop = sync.OnceFunc(func() {
		p.stopping.Store(true)
		p.both.Wait()
		p.client.Close()
		p.server.Close()
	})
	w.Cleanup(p.stop)
	return p
}

func (p *pump) run(from, to net.Conn, seed uint32, moved *atomic.Uint64) {
	sent, received := traffic.NewPattern(seed), traffic.NewPattern(seed)
	out, in := make([]byte, chunk), make([]byte, chunk)
	for !p.stopping.Load() {
		sent.Fill(out)
		if err := step(from, to, out, in, received); err != nil {
			p.Errorf("after %d bytes from %v: %v", received.Offset(), from.LocalAddr(), err)
			return
		}
		moved.Add(chunk)
	}
}

func step(from, to net.Conn, out, in []byte, received *traffic.Pattern) error {
	until := time.Now().Add(patience)
	if err := from.SetWriteDeadline(until); err != nil {
		return err
	}
	if err := to.SetReadDeadline(until); err != nil {
		return err
	}
	if _, err := from.Write(out); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if n, err := io.ReadFull(to, in); err != nil {
		return fmt.Errorf("read %d of %d bytes: %w", n, len(in), err)
	}
	return received.Check(in)
}

// more waits until this many further bytes have come from the client to the server, and returns how many
// bytes of the client's pod have left it by its interface.
func (p *pump) more(bytes uint64) (wire uint64) {
	p.Helper()
	before, goal := wireBytes(p.T, p.from), p.moved.Load()+bytes
	eventually(p.T, "more bytes have arrived", func() bool { return p.moved.Load() >= goal || p.Failed() })
	return wireBytes(p.T, p.from) - before
}

// wantRedirected expects that the next bytes do not pass the interface. The first ones after a change may.
func (p *pump) wantRedirected(when string) {
	p.Helper()
	p.more(megabyte)
	if wire := p.more(8 * megabyte); wire > megabyte {
		p.Errorf("%s: %d bytes left the pod by its interface while 8 MiB arrived; want them redirected", when, wire)
	}
}

func (p *pump) wantTCP(when string) {
	p.Helper()
	p.more(megabyte)
	if wire := p.more(8 * megabyte); wire < 8*megabyte {
		p.Errorf("%s: %d bytes left the pod by its interface while 8 MiB arrived; want them to use TCP", when, wire)
	}
}
