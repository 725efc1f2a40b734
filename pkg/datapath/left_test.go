// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

// evictAll turns the kill switch on, and makes all sockets leave that can.
func evictAll(t *testing.T, d *Datapath) map[Stay]int {
	t.Helper()
	if err := d.SetDisabled(true); err != nil {
		t.Fatal(err)
	}
	e, err := d.NewEviction()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	stay, err := e.Run()
	if err != nil {
		t.Fatal(err)
	}
	return stay
}

// redirected makes a connection whose ends have both redirected.
func redirected(t *testing.T, d *Datapath, g *group) (client, server *net.TCPConn) {
	t.Helper()
	client, server = g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 1000, 1)
	send(t, server, client, 1000, 2)
	send(t, client, server, 1000, 3)
	for _, c := range []net.Conn{client, server} {
		if f, _ := flowOf(t, d, c); f.RedirectedBytes == 0 {
			t.Fatalf("not redirected, so this test shows nothing: %+v", f)
		}
	}
	return client, server
}

// Features that only TCP does right work again on a live connection.
func TestASocketThatHasLeftIsPlainTCP(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := redirected(t, d, g)
	if stay := evictAll(t, d); len(stay) != 0 {
		t.Fatalf("sockets stay: %v", stay)
	}
	want := pattern(make([]byte, 5000), 4)
	write(t, client, want)
	eventually(t, "FIONREAD counts what has come", func() bool { return unreadAt(t, server) == len(want) })
	if got := spliced(t, server, len(want)); string(got) != string(want) {
		t.Errorf("splice(2) moved %d bytes, or others", len(got))
	}
	f := blockingFile(t, server)
	if signals, err := readUnderSignals(t, f, client); err != nil {
		t.Errorf("a blocking read ended after %d signals: %v", signals, err)
	}
	plain, plainServer := newGroup(t).pair(t, "tcp4", "127.0.0.1:0")
	defer plain.Close()
	if got, want := upperLayer(t, client), upperLayer(t, plainServer); got != want {
		t.Errorf("TCP_ULP: %v, on a socket that never was in the sockhash %v", got, want)
	}
}

func unreadAt(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err
	})
	return n
}

// spliced moves n bytes out of the socket by splice(2), within a second.
func spliced(t *testing.T, c *net.TCPConn, n int) []byte {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	got := make([]byte, 0, n)
	buf := make([]byte, n)
	for end := time.Now().Add(time.Second); len(got) < n && time.Now().Before(end); {
		rawConn(t, c).control(t, func(fd int) error {
			_, err := unix.Splice(fd, nil, pipe[1], nil, n-len(got), unix.SPLICE_F_NONBLOCK)
			if errors.Is(err, unix.EAGAIN) {
				return nil
			}
			return err
		})
		if moved, err := unix.Read(pipe[0], buf); err == nil {
			got = append(got, buf[:moved]...)
		}
	}
	return got
}

// upperLayer asks for kTLS and returns the error.
func upperLayer(t *testing.T, c *net.TCPConn) (answer error) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error {
		answer = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_ULP, "tls")
		return nil
	})
	return answer
}

// A receive call that sleeps keeps its socket, and the other end, in the sockhash. Bytes over TCP wake it,
// and both leave after that.
func TestAReaderThatSleepsIsServedAndLeavesAfterwards(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := redirected(t, d, g)
	f := blockingFile(t, server)
	read := make(chan error, 1)
	got := make([]byte, 1000)
	fixture.Asleep(t, unix.SYS_READ, func() {
		_, err := io.ReadFull(fdReader(f.Fd()), got)
		read <- err
	})
	stay := evictAll(t, d)
	if stay[Stay(bpf.SockmapStaysSTAYS_CALL)] != 1 || stay[Stay(bpf.SockmapStaysSTAYS_PEER)] != 1 ||
		len(stay) != 2 {
		t.Errorf("sockets stay: %v, want the reader and its other end", stay)
	}
	want := pattern(make([]byte, 1000), 7)
	write(t, client, want)
	if err := fixture.Receive(t, "the reader that slept has all", read); err != nil ||
		string(got) != string(want) {
		t.Errorf("the reader that slept: %v", err)
	}
	if stay := evictAll(t, d); len(stay) != 0 {
		t.Errorf("sockets stay: %v", stay)
	}
	wantNoSockets(t, d)
}

// fdReader reads a blocking descriptor that Go's poller does not know.
type fdReader int

func (f fdReader) Read(b []byte) (int, error) {
	n, err := unix.Read(int(f), b)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

// A send that sleeps because its reader is behind returns, and all arrives in order.
func TestASenderThatSleepsGoesOnWhenItLeaves(t *testing.T) {
	const total = 32 << 20
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := redirected(t, d, g)
	f := blockingFile(t, client)
	want := pattern(make([]byte, total), 8)
	sent := make(chan error, 1)
	fixture.Asleep(t, unix.SYS_WRITE, func() { sent <- writeAll(int(f.Fd()), want) })
	if stay := evictAll(t, d); len(stay) == 0 {
		t.Error("all have left although a call is inside")
	}
	receive(t, server, want)
	if err := <-sent; err != nil {
		t.Errorf("the sender that slept: %v", err)
	}
	if stay := evictAll(t, d); len(stay) != 0 {
		t.Errorf("sockets stay: %v", stay)
	}
	wantNoSockets(t, d)
}

// writeAll goes on after a write that a signal has ended early, as the runtime's own signals may.
func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		data = data[max(n, 0):]
	}
	return nil
}

// A socket whose verdict is of a version that cannot commit to TCP stays, and so does the other end; both are
// on TCP.
func TestASocketOfAnOlderVersionNeverCommits(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := redirected(t, d, g)
	changeState(t, d, client,
		func(s *bpf.SockmapSockState) { s.Habits &^= uint32(bpf.SockmapHabitHABIT_CAN_COMMIT) })
	stay := evictAll(t, d)
	if stay[Stay(bpf.SockmapStaysSTAYS_OLD)] != 1 || stay[Stay(bpf.SockmapStaysSTAYS_PEER)] != 1 ||
		len(stay) != 2 {
		t.Errorf("sockets stay: %v, want the older one and its other end", stay)
	}
	for i := range uint64(50) {
		send(t, client, server, 1000, i)
		send(t, server, client, 1000, i)
	}
	if n := socketsIn(t, d); n != 2 {
		t.Errorf("%d sockets in the sockhash, want both", n)
	}
	client.Close()
	server.Close()
	wantNoSockets(t, d)
}

// The socket of a connection that has left can be used for another, which is accelerated.
func TestASocketThatHasLeftCanConnectAgain(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := redirected(t, d, g)
	if stay := evictAll(t, d); len(stay) != 0 {
		t.Fatalf("sockets stay: %v", stay)
	}
	if err := d.SetDisabled(false); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	g.in(t, func() {
		rawConn(t, client).control(t, func(fd int) error {
			if err := disconnect(fd); err != nil {
				return err
			}
			return connect4(fd, l.Addr())
		})
	})
	server.Close()
	again := accept(t, l)
	send(t, client, again, 1000, 1)
	send(t, again, client, 1000, 2)
	send(t, client, again, 1000, 3)
	// Go still returns its first address, by which flowOf would look for it.
	if s := changeState(t, d, client, func(*bpf.SockmapSockState) {}); s.RedirectedBytes == 0 || s.Left != 0 {
		t.Errorf("the second connection: %+v", s)
	}
}

// An edge-triggered reader that took a short read for the last one gets an event for the bytes that came over
// TCP after it, also if its socket leaves before it acknowledges them.
func TestLeavingReaderGetsTheEdgeThatItMissed(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	left := 0
	for range 20 {
		client, server := redirected(t, d, g)
		setTCPOption(t, server, unix.TCP_QUICKACK, 0)
		edges, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(edges)
		rawConn(t, server).control(t, func(fd int) error {
			return unix.EpollCtl(edges, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET})
		})
		write(t, client, make([]byte, 1000))
		setLowWater(t, server, 2) // what comes now uses TCP
		write(t, client, make([]byte, 500))
		setLowWater(t, server, 1)
		awaitEdge(t, edges)
		if n := readOnce(t, server); n != 1000 {
			t.Fatalf("read %d bytes first, want those that were redirected", n)
		}
		if len(evictAll(t, d)) == 0 {
			left++
		}
		awaitEdge(t, edges)
		if n := readOnce(t, server); n != 500 {
			t.Fatalf("read %d bytes then, want those that came over TCP", n)
		}
		client.Close()
		server.Close()
		if err := d.SetDisabled(false); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 20 readers left at once", left)
}

func awaitEdge(t *testing.T, edges int) {
	t.Helper()
	var events [1]unix.EpollEvent
	for end := time.Now().Add(5 * time.Second); ; {
		n, err := unix.EpollWait(edges, events[:], int(time.Until(end).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("no edge within five seconds: %d, %v", n, err)
		}
		return
	}
}

func readOnce(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) (err error) {
		n, err = unix.Read(fd, make([]byte, 64<<10))
		return err
	})
	return n
}
