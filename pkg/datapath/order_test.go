// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// With TCP_DEFER_ACCEPT the passive end is made by the first data, which therefore uses TCP.
func TestFirstDataBeforeThePeerJoinedKeepsItsPlace(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	deferAccept(t, l.(*net.TCPListener))
	for round := range uint64(20) {
		var client *net.TCPConn
		g.in(t, func() { client = dial(t, "tcp4", l.Addr().String()) })
		want := pattern(make([]byte, 64<<10), round)
		for i := 0; i < len(want); i += 1 << 10 {
			if _, err := client.Write(want[i : i+1<<10]); err != nil {
				t.Fatal(err)
			}
		}
		server := accept(t, l)
		f, _ := flowOf(t, d, client)
		if f.TCPBytes == 0 || f.Mode != ModeTCP {
			t.Fatalf("the first data did not use TCP, so this test shows nothing: %+v", f)
		}
		receive(t, server, want)
		send(t, client, server, 10<<10, round+1)
		if after, _ := flowOf(t, d, client); after.Mode != ModeRedirect || after.RedirectedBytes < 10<<10 {
			t.Fatalf("does not redirect although all TCP bytes are read: %+v", after)
		}
		client.Close()
		server.Close()
	}
}

func deferAccept(t *testing.T, l *net.TCPListener) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rawSocket{raw}.control(t, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5)
	})
}

// fill writes messages of one size until the socket takes no more, and returns all that it took.
func fill(t *testing.T, c net.Conn, message int, limit int) (taken []byte) {
	t.Helper()
	all := pattern(make([]byte, limit), uint64(message))
	defer c.SetWriteDeadline(time.Time{})
	for len(taken) < limit {
		if err := c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Write(all[len(taken):min(len(taken)+message, limit)])
		taken = all[:len(taken)+n]
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return taken
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("the writer was never stopped: %d bytes taken", limit)
	return nil
}

func TestStoppedReaderBoundsMemoryAndStopsTheWriter(t *testing.T) {
	// A reader that has not shown yet that it reads gets the first window only, see bpf/window.h.
	const maxBytes, maxMessages = 256 << 10, 128
	for _, tt := range []struct {
		name    string
		message int
		reason  Reason
	}{
		{"by bytes", 16 << 10, Reason(bpf.SockmapReasonREASON_BACKLOG_BYTES)},
		{"by messages", 16, Reason(bpf.SockmapReasonREASON_BACKLOG_MESSAGES)},
		{"by messages of few bytes", 8, Reason(bpf.SockmapReasonREASON_BACKLOG_MESSAGES)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, g := load(t, bounded(1024, 4*maxBytes, 4*maxMessages)), newGroup(t)
			g.attach(t, d)
			client, server := g.pair(t, "tcp4", "127.0.0.1:0")
			// Without a set buffer TCP's own queue grows as it likes; with one, fewer bytes are redirected.
			if tt.message < 1<<10 {
				if err := server.SetReadBuffer(64 << 10); err != nil {
					t.Fatal(err)
				}
			}
			taken := fill(t, client, tt.message, 64<<20)
			f, _ := flowOf(t, d, client)
			if f.Mode != ModeTCP || f.Reason != tt.reason {
				t.Errorf("want TCP because of %s: %+v", tt.reason, f)
			}
			if f.RedirectedBytes > maxBytes || f.RedirectedMessages > maxMessages {
				t.Errorf("redirected beyond the bounds: %+v", f)
			}
			if f.RedirectedMessages < maxMessages && f.RedirectedBytes+uint64(tt.message) <= maxBytes {
				t.Errorf("fell back before either bound: %+v", f)
			}
			// The receive buffer comes on top: TCP queues there once the flow is on TCP. Twice, for its
			// overhead.
			if got := receiveMemory(t, server); got > maxBytes+2*128<<10 {
				t.Errorf("the kernel charges %d bytes to the reader", got)
			}
			receive(t, server, taken)
			// Twice: after an EAGAIN the kernel keeps the last answer of the verdict for one more message.
			send(t, client, server, 64<<10, 9)
			send(t, client, server, 64<<10, 10)
			if after, _ := flowOf(t, d, client); after.Mode != ModeRedirect {
				t.Errorf("does not return to redirect after draining: %+v", after)
			}
		})
	}
}

func TestWriterWithASendBufferIsStoppedByBothBuffers(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	if err := errors.Join(client.SetWriteBuffer(16<<10), server.SetReadBuffer(16<<10)); err != nil {
		t.Fatal(err)
	}
	taken := fill(t, client, 1<<10, 64<<20)
	if f, _ := flowOf(t, d, client); f.RedirectedBytes == 0 || f.RedirectedBytes > 32<<10 {
		t.Errorf("32 KiB of buffers, but: %+v", f)
	}
	if len(taken) > 128<<10 {
		t.Errorf("%d bytes were taken", len(taken))
	}
	receive(t, server, taken)
}

func TestOneBigMessagePassesASmallBound(t *testing.T) {
	d, g := load(t, bounded(1024, 4096, 16)), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	for round := range uint64(20) {
		send(t, client, server, 100<<10, round)
	}
	if f, _ := flowOf(t, d, client); f.RedirectedBytes == 0 {
		t.Errorf("nothing was redirected: %+v", f)
	}
}

// The reader sees the switch between both ways many times; each byte keeps its place.
func TestSwitchingBackAndForthKeepsTheOrder(t *testing.T) {
	d, g := load(t, bounded(1024, 32<<10, 64)), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	if err := server.SetReadBuffer(32 << 10); err != nil {
		t.Fatal(err)
	}
	want := pattern(make([]byte, 24<<20), 7)
	written := make(chan error, 1)
	go func() {
		for sent, size := 0, 1; sent < len(want); size = size*7%20011 + 1 {
			n, err := client.Write(want[sent:min(sent+size, len(want))])
			if err != nil {
				written <- err
				return
			}
			sent += n
		}
		written <- nil
	}()
	for at := 0; at < len(want); at += 64 << 10 {
		if at%(2<<20) == 0 {
			fixture.Elapse(20*time.Millisecond, "a reader that pauses now and then")
		}
		receive(t, server, want[at:at+64<<10])
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	f, _ := flowOf(t, d, client)
	if f.RedirectedBytes == 0 || f.TCPBytes == 0 || f.RedirectedBytes+f.TCPBytes != uint64(len(want)) {
		t.Errorf("want bytes both ways and %d in all: %+v", len(want), f)
	}
}

func TestReaderWithLowWaterMarkGetsTCP(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	setLowWater(t, server, 100)
	send(t, client, server, 1000, 1)
	if f, _ := flowOf(t, d, client); f.RedirectedBytes != 0 ||
		f.Reason != Reason(bpf.SockmapReasonREASON_RCVLOWAT) {
		t.Errorf("want TCP because of rcvlowat: %+v", f)
	}
}

// setLowWater sets SO_RCVLOWAT, which redirected bytes would not honour: what is sent to c uses TCP from
// then on.
func setLowWater(t testing.TB, c *net.TCPConn, bytes int) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes)
	})
}

// While a reader pauses with more unread than its receive buffer holds, its kernel drops what comes over TCP
// and the sender tries again, more and more rarely. Once the reader goes on it must not have to wait for the
// next try.
func TestReaderThatPausedIsServedAtOnce(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	want := pattern(make([]byte, 12<<20), 4)
	go client.Write(want)
	fixture.Elapse(8*time.Second, "by then the sender's next retransmission is more than three seconds away")
	if f, _ := flowOf(t, d, server); f.BacklogBytes < 256<<10 {
		t.Fatalf("only %d bytes wait for the reader", f.BacklogBytes)
	}
	buf := make([]byte, 64<<10)
	for got := 0; got < len(want); {
		if err := server.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := server.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], want[got:got+n]) {
			f, _ := flowOf(t, d, client)
			t.Fatalf("after %d of %d bytes: %v, right so far: %v, sender %+v", got, len(want), err, err != nil, f)
		}
		got += n
	}
}
