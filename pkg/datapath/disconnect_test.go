// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// socketIn is a TCP socket of the group whose calls do not wait; it is closed with the test.
func socketIn(t *testing.T, g *group) (fd int) {
	t.Helper()
	g.in(t, func() {
		var err error
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
			0); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// polled is the result of poll(2) for fd at this moment.
func polled(fd int) string {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
	_, err := unix.Poll(p, 0)
	return fmt.Sprintf("%#x %v", p[0].Revents, err)
}

// readFD reads what is there within a second.
func readFD(fd int) string {
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000); err != nil &&
		!errors.Is(err, unix.EINTR) {
		return err.Error()
	}
	buf := make([]byte, 100)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return unix.ErrnoName(err.(unix.Errno))
	}
	return fmt.Sprintf("%q", buf[:n])
}

// awaitState waits for a TCP state of fd.
func awaitState(t *testing.T, fd int, state uint8) {
	t.Helper()
	eventually(t, fmt.Sprintf("the socket is in TCP state %d", state), func() bool {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && info.State == state
	})
}

func shutdownFD(t *testing.T, fd, how int) {
	t.Helper()
	if err := unix.Shutdown(fd, how); err != nil {
		t.Fatal(err)
	}
}

// Numbers of include/net/tcp_states.h.
const (
	stateEstablished = 1
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateCloseWait   = 8
)

// endings bring the client of a connection, with unread bytes, to a state in which it then disconnects.
var endings = []struct {
	name string
	end  func(t *testing.T, client int, server *net.TCPConn)
	seen bool // on_close can distinguish what follows from another end of the connection
}{
	{"ESTABLISHED", func(*testing.T, int, *net.TCPConn) {}, true},
	{"CLOSE_WAIT", func(t *testing.T, client int, server *net.TCPConn) {
		server.Close()
		awaitState(t, client, stateCloseWait)
	}, true},
	{"FIN_WAIT2", func(t *testing.T, client int, _ *net.TCPConn) {
		shutdownFD(t, client, unix.SHUT_WR)
		awaitState(t, client, stateFinWait2)
	}, true},
	{"FIN_WAIT2 after shutdown of both ways", func(t *testing.T, client int, _ *net.TCPConn) {
		shutdownFD(t, client, unix.SHUT_RDWR)
		awaitState(t, client, stateFinWait2)
	}, false},
	{"CLOSE after a reset", func(t *testing.T, client int, server *net.TCPConn) {
		if err := server.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		server.Close()
		awaitState(t, client, unix.BPF_TCP_CLOSE)
	}, false},
	{"CLOSE after both have closed", func(t *testing.T, client int, server *net.TCPConn) {
		server.Close()
		awaitState(t, client, stateCloseWait)
		shutdownFD(t, client, unix.SHUT_WR)
		awaitState(t, client, unix.BPF_TCP_CLOSE)
	}, false},
}

// reuse makes two connections of one socket and returns what a program sees after it has disconnected the
// first, whose bytes it has not read. redirected is whether those bytes were redirected.
func reuse(t *testing.T, d *Datapath, g *group, end func(*testing.T, int, *net.TCPConn),
	between bool) (saw []string, redirected bool) {
	t.Helper()
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	fd := socketIn(t, g)
	if err := connect4(fd, l.Addr()); err != nil {
		t.Fatal(err)
	}
	first := accept(t, l)
	warmUp(t, first, fd)
	if _, err := first.Write([]byte("secret of the first connection")); err != nil {
		t.Fatal(err)
	}
	f, _ := flowOf(t, d, first)
	redirected = f.Mode == ModeRedirect
	if !redirected {
		awaitUnread(t, fd)
	}
	end(t, fd, first)
	if err := disconnect(fd); err != nil {
		t.Fatal(err)
	}
	if between {
		saw = append(saw, polled(fd), readFD(fd), readFD(fd))
	}
	if err := connect4(fd, l.Addr()); err != nil {
		t.Fatal(err)
	}
	second := accept(t, l)
	if _, err := second.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	saw = append(saw, readFD(fd))
	warmUp(t, second, fd)
	if f, ok := flowOf(t, d, second); redirected && (!ok || f.Mode != ModeRedirect) {
		t.Errorf("the second connection is not accelerated: %+v", f)
	}
	return saw, redirected
}

// warmUp sends the messages that a fresh connection sends over TCP.
func warmUp(t *testing.T, from *net.TCPConn, to int) {
	t.Helper()
	for range 2 {
		write(t, from, []byte("warm up"))
		if got := readFD(to); got != `"warm up"` {
			t.Fatalf("read %s", got)
		}
	}
}

func awaitUnread(t *testing.T, fd int) {
	t.Helper()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n != 1 {
		t.Fatalf("nothing arrives: %v", err)
	}
}

func TestNoByteOfAnEarlierConnectionIsRead(t *testing.T) {
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			d, g := load(t, defaults), newGroup(t)
			plain, _ := reuse(t, d, g, tt.end, tt.seen)
			g.attach(t, d)
			accelerated, redirected := reuse(t, d, g, tt.end, tt.seen)
			if !redirected {
				t.Fatal("the first connection was not accelerated, so this test shows nothing")
			}
			if !slices.Equal(plain, accelerated) {
				t.Errorf("plain TCP: %v, accelerated: %v", plain, accelerated)
			}
			wantFlows(t, d, RoleActive, ResultJoined, 2)
		})
	}
}

// Bytes that came before a reset are read after it, with the socket still in the sockhash; the connection is
// counted once, and no longer listed.
func TestAConnectionIsCountedOnceThoughItsSocketStays(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	want := pattern(make([]byte, 1000), 1)
	write(t, client, want)
	if err := client.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	client.Close()
	eventually(t, "both ends are over", func() bool { return len(d.flowsOf(t)) == 0 })
	if n := socketsIn(t, d); n != 1 {
		t.Errorf("%d sockets in the sockhash, want the one with bytes unread", n)
	}
	receive(t, server, want)
	raw := rawConn(t, server)
	raw.control(t, disconnect)
	all, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	if got := all[unregistered].RedirectedBytes; got != 1000 {
		t.Errorf("%d bytes in the totals, want 1000", got)
	}
	server.Close()
	wantNoSockets(t, d)
}
