// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// A reader that has set SO_RCVBUF and reads nothing: redirected bytes leave TCP its part of the buffer.
// Otherwise the kernel drops what comes over TCP, and the sender's timer doubles for as long as the reader
// rests: it then waits as long again. Plain TCP, too, sends a segment or two again when its window closes.
func TestReaderWithASetBufferLosesNoSegments(t *testing.T) {
	for _, size := range []int{100, 512, 1 << 10, 16 << 10, 48 << 10} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			d, g := load(t, bounded(1024, 1<<20, 4096)), newGroup(t)
			g.attach(t, d)
			plain := restWithASetBuffer(t, newGroup(t), size, func(*net.TCPConn) {})
			ours := restWithASetBuffer(t, g, size, func(client *net.TCPConn) {
				f, _ := flowOf(t, d, client)
				if f.Mode != ModeTCP || f.RedirectedBytes == 0 {
					t.Errorf("want TCP after redirected bytes, got %+v", f)
				}
			})
			if ours.sentAgain > plain.sentAgain+2 || ours.drained > plain.drained+500*time.Millisecond {
				t.Errorf("want about what plain TCP did, %+v; got %+v", plain, ours)
			}
		})
	}
}

// The same with a buffer that the kernel lets grow, but not as far as the window.
func TestReaderWhoseBufferGrowsLosesNoSegments(t *testing.T) {
	const most = 1 << 20
	d, g, ns := load(t, bounded(1024, 8<<20, 4096)), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	register(t, d, ns)
	ns.Sysctl(t, "ipv4/tcp_rmem", fmt.Sprint("4096 131072 ", most))
	plainClient, plainServer := newGroup(t).pairIn(t, ns)
	send(t, plainClient, plainServer, 800<<10, 1)
	plain := restOf(t, plainClient, plainServer, 16<<10, func(*net.TCPConn) {})
	client, server := g.pairIn(t, ns)
	for round := range uint64(50) {
		send(t, client, server, most/2-32<<10, round) // its window grows
	}
	ours := restOf(t, client, server, 16<<10, func(client *net.TCPConn) {
		f, _ := flowOf(t, d, client)
		if f.Mode != ModeTCP || f.Reason != ReasonBacklogBytes || f.BacklogHigh > most/2 || f.BacklogHigh < most/4 {
			t.Errorf("want TCP after at most %d redirected bytes, got %+v", most/2, f)
		}
	})
	if ours.sentAgain > plain.sentAgain+2 || ours.drained > plain.drained+500*time.Millisecond {
		t.Errorf("want about what plain TCP did, %+v; got %+v", plain, ours)
	}
}

// The window that TCP announces for such a buffer is bounded only while the reader is in the sockhash.
func TestTheAnnouncedWindowIsBoundedUntilTheReaderLeaves(t *testing.T) {
	const most = 2 << 20
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	ns.Sysctl(t, "ipv4/tcp_rmem", fmt.Sprint("4096 ", most, " ", most))
	client, server := g.pairIn(t, ns)
	if before := tcpOption(t, server, unix.TCP_WINDOW_CLAMP); before <= most/4 {
		t.Fatalf("a window of %d bytes: there is nothing to bound", before)
	}
	setLowWater(t, server, 2)
	send(t, client, server, 1000, 1) // over TCP, so it is acknowledged
	if got := tcpOption(t, server, unix.TCP_WINDOW_CLAMP); got != most/4 {
		t.Errorf("in the sockhash the window is bounded by %d, want %d", got, most/4)
	}
	evictAll(t, d)
	if got := tcpOption(t, server, unix.TCP_WINDOW_CLAMP); got <= most/4 {
		t.Errorf("outside the window is bounded by %d", got)
	}
}

func tcpOption(t *testing.T, c *net.TCPConn, option int) (value int) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) (err error) {
		value, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, option)
		return err
	})
	return value
}

// rest has the facts after a reader has paused for a while.
type rest struct {
	sentAgain uint32        // segments
	drained   time.Duration // for all that waited
}

func restWithASetBuffer(t *testing.T, g *group, size int, filled func(client *net.TCPConn)) rest {
	t.Helper()
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	if err := server.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	send(t, client, server, 64<<10, 1) // it has shown that it reads
	return restOf(t, client, server, size, filled)
}

func restOf(t *testing.T, client, server *net.TCPConn, size int, filled func(client *net.TCPConn)) (r rest) {
	t.Helper()
	taken := fill(t, client, size, 64<<20)
	filled(client)
	fixture.Elapse(2*time.Second,
		"several retransmission timeouts of the sender, 200 ms and twice as much each time")
	r.sentAgain = tcpInfo(t, client).Total_retrans
	begin := time.Now()
	receive(t, server, taken)
	r.drained = time.Since(begin)
	return r
}
