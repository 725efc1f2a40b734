// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// How the observers classify readers. If the kernel loads no tracing programs, these tests expect the
// opposite: no message waits for the first call of a reader.

func learns(t *testing.T, d *Datapath) bool {
	t.Helper()
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Learn
}

// setBlocking takes O_NONBLOCK away from a connection, or gives it back. Go's own calls need it.
func setBlocking(t testing.TB, c *net.TCPConn, blocking bool) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error { return unix.SetNonblock(fd, !blocking) })
}

func TestFirstMessageUsesTCPIfTheReaderMayBlock(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	setBlocking(t, server, true)
	want := pattern(make([]byte, 1000), 1)
	if _, err := client.Write(want); err != nil {
		t.Fatal(err)
	}
	f, _ := flowOf(t, d, client)
	if waits := f.RedirectedBytes == 0; waits != learns(t, d) {
		t.Errorf("before the first receive call, learning is %v: %+v", learns(t, d), f)
	}
	setBlocking(t, server, false)
	receive(t, server, want)
	send(t, client, server, 1000, 2)
	if f, _ := flowOf(t, d, client); f.Mode != ModeRedirect || f.RedirectedBytes < 1000 {
		t.Errorf("after it: %+v", f)
	}
}

func TestFirstMessageToANonblockingReaderIsRedirected(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 1000, 1)
	if f, _ := flowOf(t, d, client); f.RedirectedBytes != 1000 {
		t.Errorf("the first message: %+v", f)
	}
}

// A reader got redirected bytes before its first receive call, and then blocks in that call. It must not
// leave, because bytes wait for it.
func TestBlockingReaderWithRedirectedBytesDoesNotLeave(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	var sent [][]byte
	write := func() {
		b := pattern(make([]byte, 1000), uint64(len(sent)))
		if _, err := client.Write(b); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, b)
	}
	read := func() {
		t.Helper()
		got := make([]byte, len(sent[0]))
		rawConn(t, server).control(t, func(fd int) error { _, err := unix.Read(fd, got); return err })
		if string(got) != string(sent[0]) {
			t.Fatal("other bytes arrived")
		}
		sent = sent[1:]
	}
	write()
	write()
	if f, _ := flowOf(t, d, client); f.RedirectedBytes != 2000 {
		t.Fatalf("two messages to a reader that never waits: %+v", f)
	}
	setBlocking(t, server, true)
	read()
	for range 3 { // packets come to the server
		send(t, server, client, 100, 3)
	}
	if f, _ := flowOf(t, d, server); f.Left {
		t.Errorf("the reader has left: %+v", f)
	}
	read()
	write()
	read()
	if f, _ := flowOf(t, d, client); learns(t, d) && f.Reason != ReasonBlocking && f.Reason != ReasonLeaving {
		t.Errorf("after a call that waited: %+v", f)
	}
}

// Until the peer reads, a connection takes as many bytes as TCP does.
func TestSendQueueIsNotLimitedUntilThePeerReads(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	want := pattern(make([]byte, 200<<10), 3)
	if err := client.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(want); err != nil {
		t.Fatalf("200 KiB that nobody reads yet: %v", err)
	}
	receive(t, server, want)
}

// blockingPair is a pair of descriptors that wait inside calls, at most 5 s: from before connect(2), and from
// after accept(2).
func (g *group) blockingPair(t *testing.T, l net.Listener, clientBlocks bool) (client, server *os.File) {
	t.Helper()
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	var fd int
	g.in(t, func() {
		var err error
		if fd, err = unix.Socket(unix.AF_INET, kind, 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(fd, !clientBlocks); err != nil {
			t.Fatal(err)
		}
		to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}
		if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	})
	conn := accept(t, l)
	defer conn.Close()
	file, err := conn.File() // a duplicate, in blocking mode
	if err != nil {
		t.Fatal(err)
	}
	client = os.NewFile(uintptr(fd), "client")
	t.Cleanup(func() { file.Close(); client.Close() })
	if err := unix.SetNonblock(int(file.Fd()), false); err != nil {
		t.Fatal(err)
	}
	return client, file
}

func exchange(from, to int, size int) error {
	want := pattern(make([]byte, size), uint64(size))
	if err := writeAll(from, want); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	got := make([]byte, size)
	for n := 0; n < size; {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLIN}}, 5000); err != nil &&
			err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		m, err := unix.Read(to, got[n:])
		if m <= 0 {
			return fmt.Errorf("read: %d bytes, %w", m, err)
		}
		n += m
	}
	if string(got) != string(want) {
		return fmt.Errorf("%d bytes arrived changed", size)
	}
	return nil
}

func TestReadersThatBlockAreLeftToTCP(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	guards := learns(t, d)
	for _, clientBlocks := range []bool{true, false} {
		t.Run(fmt.Sprintf("client blocks %v", clientBlocks), func(t *testing.T) {
			var l net.Listener
			g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
			before := socketsIn(t, d)
			client, server := g.blockingPair(t, l, clientBlocks)
			for i := range 5 {
				if err := exchange(int(client.Fd()), int(server.Fd()), 1000+i); err != nil {
					t.Fatal(err)
				}
				if err := exchange(int(server.Fd()), int(client.Fd()), 2000+i); err != nil {
					t.Fatal(err)
				}
			}
			in := socketsIn(t, d) - before
			switch {
			case !guards && in != 2:
				t.Errorf("without observers: %d ends in the sockhash, want 2", in)
			case guards && clientBlocks && in != 0:
				t.Errorf("%d ends in the sockhash although the client's descriptor blocks", in)
			case guards && !clientBlocks && in > 1: // the client's leaves a little later
				t.Errorf("%d ends in the sockhash, want the client's at most", in)
			}
			if guards && !clientBlocks {
				g.wantAvoided(t, d, l)
			}
		})
	}
}

// wantAvoided expects that a second connection to a server that blocked stays on TCP.
func (g *group) wantAvoided(t *testing.T, d *Datapath, l net.Listener) {
	t.Helper()
	before := socketsIn(t, d)
	client, server := g.blockingPair(t, l, false)
	if err := exchange(int(client.Fd()), int(server.Fd()), 100); err != nil {
		t.Fatal(err)
	}
	if err := exchange(int(server.Fd()), int(client.Fd()), 100); err != nil {
		t.Fatal(err)
	}
	if in := socketsIn(t, d) - before; in != 0 {
		t.Errorf("%d ends of a later connection to that port are in the sockhash", in)
	}
}

func TestBlockingReadersAreRedirectedWithoutTheirGuard(t *testing.T) {
	s := guarded
	s.WithoutGuards = []string{GuardBlocking}
	d, g := load(t, s), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	client, server := g.blockingPair(t, l, true)
	for range 3 {
		if err := exchange(int(client.Fd()), int(server.Fd()), 1000); err != nil {
			t.Fatal(err)
		}
	}
	if n := socketsIn(t, d); n != 2 {
		t.Errorf("%d ends in the sockhash, want 2", n)
	}
	var redirected uint64
	if err := d.Flows(func(f Flow) bool { redirected += f.RedirectedBytes; return true }); err != nil ||
		redirected < 1000 {
		t.Errorf("%d bytes redirected, %v", redirected, err)
	}
}

// Once the server has read, the client's send queue over TCP is limited. The first reply shows that the
// server has read.
func TestSendQueueIsLimitedOnceThePeerHasRead(t *testing.T) {
	s := guarded
	s.WithoutGuards = []string{GuardOptions} // which would hide it
	d, g := load(t, s), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 100, 1)
	send(t, server, client, 100, 2)
	setLowWater(t, server, 2) // only TCP honours it
	send(t, client, server, 100, 3)
	eventually(t, "the client has the mark", func() bool { return notSentMark(t, client) == 4095 })
}
