// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

func shareOf(t *testing.T, d *Datapath, cookie uint64) int {
	t.Helper()
	counts, err := d.SocketShares()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := counts[cookie]
	if !ok {
		t.Fatalf("no share of %d in %v", cookie, counts)
	}
	return n
}

// register makes the network namespace an endpoint with a share of its own.
func register(t *testing.T, d *Datapath, ns *netnstest.NetNS) {
	t.Helper()
	if err := d.SetEndpoint(ns.Cookie, Policy{Accelerate: true}); err != nil {
		t.Fatal(err)
	}
}

func (g *group) pairIn(t *testing.T, ns *netnstest.NetNS) (client, server *net.TCPConn) {
	t.Helper()
	g.in(t, func() {
		ns.Do(func() {
			l := listen(t, "tcp4", "127.0.0.1:0")
			defer l.Close()
			client = dial(t, "tcp4", l.Addr().String())
			server = accept(t, l)
		})
	})
	return client, server
}

// ends are the ways in which a pair ends, each of which takes both sockets out of the share.
var ends = []struct {
	name string
	end  func(t *testing.T, client, server *net.TCPConn)
}{
	{"close, the client first", func(t *testing.T, client, server *net.TCPConn) {
		client.Close()
		server.Close()
	}},
	{"close, the server first", func(t *testing.T, client, server *net.TCPConn) {
		server.Close()
		client.Close()
	}},
	{"close with bytes unread", func(t *testing.T, client, server *net.TCPConn) {
		if _, err := client.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		server.Close()
		client.Close()
	}},
	{"reset", func(t *testing.T, client, server *net.TCPConn) {
		if err := client.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		client.Close()
	}},
	{"shutdown", func(t *testing.T, client, server *net.TCPConn) {
		if err := errors.Join(client.CloseWrite(), server.CloseWrite()); err != nil {
			t.Fatal(err)
		}
		wantEOF(t, client)
		wantEOF(t, server)
	}},
	{"disconnect", func(t *testing.T, client, server *net.TCPConn) {
		for _, c := range []*net.TCPConn{client, server} {
			rawConn(t, c).control(t, disconnect)
		}
	}},
}

func TestClosedSocketsDoNotCountInTheShare(t *testing.T) {
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	register(t, d, ns)
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			client, server := g.pairIn(t, ns)
			send(t, client, server, 1000, 1)
			if n := shareOf(t, d, ns.Cookie); n != 2 {
				t.Errorf("%d sockets of the pair are counted, want 2", n)
			}
			e.end(t, client, server)
			eventually(t, "none is counted", func() bool { return shareOf(t, d, ns.Cookie) == 0 })
			if n := socketsIn(t, d); n != 0 {
				t.Errorf("%d sockets are in the sockhash", n)
			}
		})
	}
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	if n := shareOf(t, d, unregistered); n != 2 {
		t.Errorf("%d sockets of a namespace that is not registered are counted, want 2", n)
	}
	client.Close()
	server.Close()
	eventually(t, "none of those is counted", func() bool { return shareOf(t, d, unregistered) == 0 })
}

func TestSocketsThatLeftDoNotCountInTheShare(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	l := listen(t, "tcp4", "127.0.0.1:0") // not in the group
	var client *net.TCPConn
	g.in(t, func() { client = dial(t, "tcp4", l.Addr().String()) })
	server := accept(t, l)
	if n := shareOf(t, d, unregistered); n != 1 {
		t.Errorf("before the first answer %d sockets are counted, want 1", n)
	}
	send(t, server, client, 10, 1)
	if n := shareOf(t, d, unregistered); n != 0 {
		t.Errorf("off the node, and %d sockets are counted", n)
	}
}

// A socket that was counted as unregistered stays so, also when its namespace is registered meanwhile.
func TestASocketLeavesTheShareThatItEntered(t *testing.T) {
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	early, earlyServer := g.pairIn(t, ns)
	register(t, d, ns)
	late, lateServer := g.pairIn(t, ns)
	if own, others := shareOf(t, d, ns.Cookie), shareOf(t, d, unregistered); own != 2 || others != 2 {
		t.Errorf("%d and %d are counted, want 2 and 2", own, others)
	}
	early.Close()
	earlyServer.Close()
	eventually(t, "the first pair is not counted", func() bool { return shareOf(t, d, unregistered) == 0 })
	if own := shareOf(t, d, ns.Cookie); own != 2 {
		t.Errorf("%d of the second pair are counted", own)
	}
	late.Close()
	lateServer.Close()
	eventually(t, "none is counted", func() bool { return shareOf(t, d, ns.Cookie) == 0 })
}

// The connection was reset, and its redirected bytes can still be read: such sockets would fill the sockhash
// if they did not count. Nothing reports their end, so it is found by counting.
func TestADeadSocketWithBytesCountsUntilItIsClosed(t *testing.T) {
	d, g, ns := load(t, bounded(64, 4<<20, 4096)), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	register(t, d, ns)
	client, server := g.pairIn(t, ns)
	send(t, client, server, 10, 1) // so that the client knows its peer
	want := pattern(make([]byte, 1000), 2)
	if _, err := client.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := client.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	client.Close()
	eventually(t, "the client's end has left", func() bool { return socketsIn(t, d) == 1 })
	if n, err := d.CountShares(); n != 0 || err != nil {
		t.Errorf("counted again: %d changed, %v", n, err)
	}
	if n := shareOf(t, d, ns.Cookie); n != 1 {
		t.Errorf("%d sockets are counted, want the one with bytes", n)
	}
	if flows := d.flowsOf(t); len(flows) != 0 {
		t.Errorf("live flows: %+v", flows)
	}
	receive(t, server, want)
	server.Close()
	eventually(t, "the server's end has left", func() bool { return socketsIn(t, d) == 0 })
	if n := shareOf(t, d, ns.Cookie); n != 1 {
		t.Errorf("%d sockets are counted, want 1: nothing has reported the end", n)
	}
	// The kernel frees a closed socket, and what is kept with it, some time later.
	eventually(t, "a new count has found out", func() bool {
		_, err := d.CountShares()
		return err == nil && shareOf(t, d, ns.Cookie) == 0
	})
}

func TestCountSharesCorrectsWrongCounts(t *testing.T) {
	d, g, ns := load(t, bounded(64, 4<<20, 4096)), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	register(t, d, ns)
	_, _ = g.pairIn(t, ns)
	// DEL and ADD of a network while its sockets live, as for one of several networks.
	if err := d.DeleteEndpoint(ns.Cookie); err != nil {
		t.Fatal(err)
	}
	register(t, d, ns)
	if n := shareOf(t, d, ns.Cookie); n != 0 {
		t.Fatalf("%d sockets are counted, so this test shows nothing", n)
	}
	if n, err := d.CountShares(); n != 1 || err != nil {
		t.Errorf("%d changed, %v", n, err)
	}
	if n := shareOf(t, d, ns.Cookie); n != 2 {
		t.Errorf("%d sockets are counted, want 2", n)
	}
}

func TestDriftIsTheDistanceFromBothCounts(t *testing.T) {
	for _, tt := range []struct{ before, after, counted, unlisted, want int64 }{
		{5, 5, 5, 0, 0}, {5, 9, 7, 0, 0}, {9, 5, 7, 0, 0}, {5, 9, 4, 0, -1}, {5, 9, 12, 0, 3}, {3, 3, 0, 0, -3},
		{5, 5, 4, 1, 0}, {5, 5, 0, 2, -3}, {5, 5, 7, 9, 2},
	} {
		if got := drift(tt.before, tt.after, tt.counted, tt.unlisted); got != tt.want {
			t.Errorf("drift(%d, %d, %d, %d) = %d, want %d", tt.before, tt.after, tt.counted, tt.unlisted, got, tt.want)
		}
	}
}

// One namespace floods. It gets no more than half of the sockhash, which is what all may have before shares
// count, and another's connections are taken.
func TestNoPodTakesMoreThanItsShare(t *testing.T) {
	const room = 32
	d, g := load(t, bounded(room, 4<<20, 4096)), newGroup(t)
	g.attach(t, d)
	flooding, other := netnstest.New(t), netnstest.New(t)
	register(t, d, flooding)
	register(t, d, other)
	for range room {
		g.pairIn(t, flooding)
	}
	if n := shareOf(t, d, flooding.Cookie); n > room/2+1 {
		t.Errorf("it has %d of %d sockets", n, room)
	}
	wantAtLeast(t, d, RoleActive, ResultShare, 1)
	wantFlows(t, d, RoleActive, ResultMapFull, 0)
	client, server := g.pairIn(t, other)
	send(t, client, server, 1000, 1)
	if f, ok := flowOf(t, d, client); !ok || f.RedirectedBytes != 1000 {
		t.Errorf("another's connection: %+v", f)
	}
}

func wantAtLeast(t *testing.T, d *Datapath, role Role, result Result, want uint64) {
	t.Helper()
	if got := flowsCounted(t, d, role, result); got < want {
		t.Errorf("%d flows counted as %s %s, want at least %d", got, role, result, want)
	}
}

// Fast Open connections that no server accepts: their announcements are removed.
func TestRefusedFastOpensLeaveNothingBehind(t *testing.T) {
	const attempts = 4000
	d, g := load(t, bounded(1024, 8<<20, 4096)), newGroup(t)
	g.attach(t, d)
	victim, server := g.pair(t, "tcp4", "127.0.0.1:0") // has not met its peer yet
	before := entriesOf(t, d)
	refused := 0
	g.in(t, func() {
		for range attempts {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			err = unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN,
				&unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
			if errors.Is(err, unix.ECONNREFUSED) {
				refused++
			}
			unix.Close(fd)
		}
	})
	if refused != attempts {
		t.Fatalf("%d of %d were refused", refused, attempts)
	}
	if after := entriesOf(t, d); after != before {
		t.Errorf("%d entries where flows meet, %d before", after, before)
	}
	send(t, victim, server, 100, 1)
	send(t, victim, server, 100, 2)
	if f, ok := flowOf(t, d, victim); !ok || f.RedirectedBytes != 200 {
		t.Errorf("a pair that was waiting: %+v", f)
	}
}

// entriesOf counts the map where the ends of flows meet.
func entriesOf(t *testing.T, d *Datapath) int {
	t.Helper()
	return entriesIn(t, d, bpf.SockmapMapFlows, 56)
}
