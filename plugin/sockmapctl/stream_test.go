// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

// stream keeps bytes flowing from client to server while f runs, and fails unless the very same arrive.
func stream(t *testing.T, p pair, f func()) {
	t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent, received uint64
	var arrived atomic.Uint64
	p.client.SetDeadline(time.Now().Add(30 * time.Second))
	p.server.SetDeadline(time.Now().Add(30 * time.Second))
	wg.Go(func() {
		var err error
		if sent, err = write(p.client, &arrived, stop); err != nil {
			t.Errorf("write after %d bytes: %v", sent, err)
		}
	})
	wg.Go(func() {
		var err error
		if received, err = check(p.server, &arrived); err != nil {
			t.Errorf("read after %d bytes: %v", received, err)
		}
	})
	func() {
		defer wg.Wait()
		defer close(stop)
		f()
	}()
	if sent != received || sent == 0 {
		t.Errorf("%d bytes were sent, %d arrived", sent, received)
	}
}

// streamAhead is how many bytes the writer may be ahead of the reader at the end of a stretch. A stream that
// never lets its reader catch up is one that gains nothing: on a busy machine it may leave the sockhash for
// good.
const streamAhead = 4 << 20

// write sends until stop is closed. After each stretch of streamAhead bytes it waits until all have arrived.
func write(c *net.TCPConn, arrived *atomic.Uint64, stop <-chan struct{}) (uint64, error) {
	pattern := traffic.NewPattern(7)
	buf := make([]byte, 32<<10)
	var waited uint64
	for i := 0; ; i++ {
		select {
		case <-stop:
			return pattern.Offset(), c.CloseWrite()
		default:
		}
		if pattern.Offset()-waited > streamAhead {
			waited = pattern.Offset()
			fixture.Within(time.Second, func() bool { return arrived.Load() == waited })
		}
		b := buf[:1+i*977%len(buf)]
		pattern.Fill(b)
		if _, err := c.Write(b); err != nil {
			return pattern.Offset(), err
		}
	}
}

// check counts in arrived, while it reads, so that the writer can wait for it.
func check(c *net.TCPConn, arrived *atomic.Uint64) (uint64, error) {
	pattern := traffic.NewPattern(7)
	buf := make([]byte, 48<<10)
	for {
		n, err := c.Read(buf)
		if err := pattern.Check(buf[:n]); err != nil {
			return pattern.Offset(), err
		}
		arrived.Store(pattern.Offset())
		if errors.Is(err, io.EOF) {
			return pattern.Offset(), nil
		}
		if err != nil {
			return pattern.Offset(), err
		}
	}
}

// flowOf reads one socket through a handle that outlives the pins.
func flowOf(t *testing.T, d *datapath.Datapath, p pair) (found datapath.Flow) {
	t.Helper()
	err := d.Flows(func(f datapath.Flow) bool {
		if f.Local.String() == p.client.LocalAddr().String() {
			found = f
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestDisableAndEnableInMidStreamLoseNoByte(t *testing.T) {
	n, g := newLoadedNode(t), newGroup(t)
	n.ok(t, "attach", "--cgroup", g.path)
	d := n.open(t)
	for range 5 {
		p := connect(t, g, &netnstest.NetNS{}, 1)[0]
		stream(t, p, func() {
			eventually(t, "the flow is redirected", func() bool { return flowOf(t, d, p).RedirectedBytes > 0 })
			n.ok(t, "disable")
			eventually(t, "the flow is plain TCP", func() bool { return flowOf(t, d, p).Left })
			n.ok(t, "enable")
		})
	}
}

func TestUnloadInMidStreamLosesNoByte(t *testing.T) {
	n, g := newLoadedNode(t), newGroup(t)
	n.ok(t, "attach", "--cgroup", g.path)
	d, p := n.open(t), connect(t, g, &netnstest.NetNS{}, 1)[0]
	// Opened now: this handle has to read them when the pins are gone.
	flowOf(t, d, p)
	stream(t, p, func() {
		eventually(t, "the flow is redirected", func() bool {
			return flowOf(t, d, p).RedirectedBytes > 0
		})
		n.ok(t, "unload")
		before := flowOf(t, d, p)
		eventually(t, "it goes on by TCP", func() bool {
			f := flowOf(t, d, p)
			return f.Mode != datapath.ModeRedirect && f.TCPBytes > before.TCPBytes+1<<20
		})
	})
}

func TestDetachInMidStreamLosesNoByte(t *testing.T) {
	n, g := newLoadedNode(t), newGroup(t)
	n.ok(t, "attach", "--cgroup", g.path)
	d, p := n.open(t), connect(t, g, &netnstest.NetNS{}, 1)[0]
	stream(t, p, func() {
		n.ok(t, "detach", "--cgroup", g.path)
		before := flowOf(t, d, p).RedirectedBytes
		eventually(t, "the live flow is redirected still", func() bool {
			return flowOf(t, d, p).RedirectedBytes > before+1<<20
		})
	})
	later := connect(t, g, &netnstest.NetNS{}, 1)[0]
	later.send(t, 1, 100)
	if f := flowOf(t, d, later); f.Local.IsValid() {
		t.Errorf("a connection made after detach is taken: %+v", f)
	}
}
