// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

func TestHalfCloseDeliversEverythingBothWays(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	request := pattern(make([]byte, 100<<10), 1)
	if _, err := client.Write(request); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after shutdown: %v, want EPIPE", err)
	}
	receive(t, server, request)
	wantEOF(t, server)
	send(t, server, client, 100<<10, 2)
	f, _ := flowOf(t, d, server)
	if f.RedirectedBytes != 100<<10 {
		t.Errorf("the answer after the half close was not redirected: %+v", f)
	}
	server.Close()
	wantEOF(t, client)
}

func TestCloseWithDataInFlightLosesNothing(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	for round := range uint64(50) {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		want := pattern(make([]byte, 200<<10), round)
		for i := 0; i < len(want); i += 10 << 10 {
			if _, err := client.Write(want[i : i+10<<10]); err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		receive(t, server, want)
		wantEOF(t, server)
		server.Close()
	}
	eventually(t, "the sockhash is empty", func() bool { return socketsIn(t, d) == 0 })
}

func TestBytesBeforeAResetAreDelivered(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	want := pattern(make([]byte, 50<<10), 1)
	if _, err := client.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := client.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	client.Close()
	receive(t, server, want)
	deadline(t, server)
	if n, err := server.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes and error %v, want ECONNRESET", n, err)
	}
}

// The sums of closed sockets equal the bytes sent, by redirect and over TCP.
func TestTotalsAddUpWhenSocketsClose(t *testing.T) {
	d, g := load(t, bounded(1024, 64<<10, 4096)), newGroup(t)
	g.attach(t, d)
	const pairs, size = 10, 1 << 20
	var sent uint64
	for i := range uint64(pairs) {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		send(t, client, server, size, i)
		send(t, server, client, size, i+1)
		sent += 2 * size
		client.Close()
		server.Close()
	}
	sums := func() Totals {
		all, err := d.Totals()
		if err != nil {
			t.Fatal(err)
		}
		return all[unregistered]
	}
	eventually(t, "all sockets are closed", func() bool { return len(d.flowsOf(t)) == 0 })
	if s := sums(); s.RedirectedBytes+s.TCPBytes != sent || s.RedirectedBytes == 0 {
		t.Errorf("counted %d bytes redirected and %d over TCP, sent %d", s.RedirectedBytes, s.TCPBytes, sent)
	}
	wantFlows(t, d, RoleActive, ResultJoined, pairs)
	wantFlows(t, d, RolePassive, ResultJoined, pairs)
}

// stream writes for a while and reports what it wrote; the reader checks each byte.
func stream(t *testing.T, from, to net.Conn, during func()) {
	t.Helper()
	const chunk = 8 << 10
	stop, total := make(chan struct{}), make(chan int)
	block := pattern(make([]byte, chunk), 3)
	go func() {
		n := 0
		defer func() { total <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := from.Write(block); err != nil {
				t.Errorf("write: %v", err)
				return
			}
			// A pause now and then: a flow returns to redirect only when the reader has caught up.
			if n++; n%64 == 0 {
				fixture.Elapse(time.Millisecond, "the pace of the writer")
			}
		}
	}()
	read := make(chan int)
	go func() {
		n := 0
		defer func() { read <- n }()
		for {
			buf := make([]byte, chunk)
			if !readBlock(to, buf) {
				return
			}
			if string(buf) != string(block) {
				t.Errorf("block %d differs", n)
				return
			}
			n++
		}
	}()
	during()
	close(stop)
	wrote := <-total
	from.(*net.TCPConn).CloseWrite()
	if got := <-read; got != wrote || wrote == 0 {
		t.Errorf("wrote %d blocks, read %d", wrote, got)
	}
}

func readBlock(c net.Conn, buf []byte) bool {
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for n := 0; n < len(buf); {
		m, err := c.Read(buf[n:])
		if err != nil {
			return false
		}
		n += m
	}
	return true
}

// The kill switch makes a live flow plain TCP for good, in mid-stream. Enabling is for new flows.
func TestDisableAndEnableInMidStream(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	for range 10 {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		stream(t, client, server, func() {
			eventually(t, "the flow is redirected", func() bool {
				f, _ := flowOf(t, d, client)
				return f.RedirectedBytes > 0
			})
			if err := d.SetDisabled(true); err != nil {
				t.Error(err)
			}
			eventually(t, "both ends have left", func() bool {
				one, _ := flowOf(t, d, client)
				other, _ := flowOf(t, d, server)
				return one.Left && other.Left
			})
			if err := d.SetDisabled(false); err != nil {
				t.Error(err)
			}
		})
		client.Close()
		server.Close()
	}
}

func TestUnloadInMidStream(t *testing.T) {
	dir, g := newStateDir(t), newGroup(t)
	d, err := Load(dir, defaults)
	if err != nil {
		t.Fatal(err)
	}
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	stream(t, client, server, func() {
		var before Flow
		eventually(t, "the flow is redirected", func() bool {
			before, _ = flowOf(t, d, client)
			return before.RedirectedBytes > 0
		})
		if err := Unload(dir, false); err != nil {
			t.Error(err)
		}
		// The handle outlives the pins: it shows that the flow changed to TCP and continued. The change waits until
		// the reader has read everything, a second at most.
		eventually(t, "the flow continues over TCP", func() bool {
			after, _ := flowOf(t, d, client)
			return after.Mode == ModeTCP && after.TCPBytes > before.TCPBytes
		})
	})
	d.Close()
}
