// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

func TestBytesOfAPairAreRedirectedBothWays(t *testing.T) {
	for _, tt := range []struct{ name, listen, address, dial, target string }{
		{"IPv4", "tcp4", "127.0.0.1:0", "tcp4", "127.0.0.1"},
		{"IPv6", "tcp6", "[::1]:0", "tcp6", "::1"},
		{"v4 client, dual-stack server", "tcp", "[::]:0", "tcp4", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, g := load(t, defaults), newGroup(t)
			g.attach(t, d)
			var l net.Listener
			var client *net.TCPConn
			g.in(t, func() { l = listen(t, tt.listen, tt.address) })
			_, port, _ := net.SplitHostPort(l.Addr().String())
			g.in(t, func() { client = dial(t, tt.dial, net.JoinHostPort(tt.target, port)) })
			server := accept(t, l)
			send(t, client, server, 300<<10, 1)
			send(t, server, client, 300<<10, 2)
			for end, conn := range map[Role]net.Conn{RoleActive: client, RolePassive: server} {
				wantAllRedirected(t, d, conn, end, 300<<10)
			}
		})
	}
}

func wantAllRedirected(t *testing.T, d *Datapath, c net.Conn, role Role, bytes uint64) {
	t.Helper()
	f, ok := flowOf(t, d, c)
	if !ok {
		t.Fatalf("the %s end is not among the live flows", role)
	}
	if f.RedirectedBytes != bytes || f.TCPBytes != 0 || f.Role != role || f.Mode != ModeRedirect || !f.Joined {
		t.Errorf("%s end: want %d bytes redirected and none over TCP: %+v", role, bytes, f)
	}
}

func TestClientOfAnOutsideServerLeavesAtTheFirstAnswer(t *testing.T) {
	for _, tt := range []struct {
		name        string
		serverFirst bool
	}{{"client speaks first", false}, {"server speaks first", true}} {
		t.Run(tt.name, func(t *testing.T) {
			d, g := load(t, defaults), newGroup(t)
			g.attach(t, d)
			l := listen(t, "tcp4", "127.0.0.1:0") // not in the group
			var client *net.TCPConn
			g.in(t, func() { client = dial(t, "tcp4", l.Addr().String()) })
			server := accept(t, l)
			if tt.serverFirst {
				send(t, server, client, 1, 1)
			} else {
				send(t, client, server, 1, 1)
			}
			wantNoSockets(t, d)
			if _, ok := flowOf(t, d, client); ok {
				t.Error("the client still has its storage")
			}
			send(t, client, server, 1<<20, 2)
			send(t, server, client, 1<<20, 3)
			wantFlows(t, d, RoleActive, ResultRemote, 1)
		})
	}
}

func TestServerOfAnOutsideClientNeverEntersTheSockhash(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	client := dial(t, "tcp4", l.Addr().String())
	server := accept(t, l)
	wantNoSockets(t, d)
	send(t, client, server, 1<<20, 1)
	wantNoSockets(t, d)
	send(t, server, client, 1<<20, 2)
	wantNoSockets(t, d)
	wantFlows(t, d, RolePassive, ResultRemote, 1)
}

func TestSameLoopbackAddressesInTwoNamespacesDoNotMeet(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	type end struct{ client, server *net.TCPConn }
	var ends []end
	for range 2 {
		ns := netnstest.New(t)
		var e end
		g.in(t, func() {
			ns.Do(func() {
				l := listen(t, "tcp4", "127.0.0.1:8080")
				e.client = dialFrom(t, "127.0.0.1:40000", "127.0.0.1:8080")
				e.server = accept(t, l)
			})
		})
		ends = append(ends, e)
	}
	for round := range uint64(50) {
		for i, e := range ends {
			send(t, e.client, e.server, 4096, 1+round*4+uint64(i))
			send(t, e.server, e.client, 4096, 3+round*4+uint64(i))
		}
	}
	if n := len(d.flowsOf(t)); n != 4 {
		t.Fatalf("%d live ends, want 4", n)
	}
	for _, f := range d.flowsOf(t) {
		if f.RedirectedBytes != 50*4096 {
			t.Errorf("not all redirected: %+v", f)
		}
	}
}

// A socket leaves the sockhash with its connection and may enter it again with another one. Nothing of that
// one counts for the first.
func TestDisconnectedSocketIsAcceleratedAgain(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	var client *net.TCPConn
	g.in(t, func() { client = dial(t, "tcp4", l.Addr().String()) })
	server := accept(t, l)
	send(t, client, server, 1000, 1)
	fd := rawConn(t, client)
	fd.control(t, disconnect)
	server.Close()
	fd.control(t, func(fd int) error { return connect4(fd, l.Addr()) })
	server = accept(t, l)
	send(t, client, server, 5000, 2)
	send(t, server, client, 5000, 3)
	flows := d.flowsOf(t)
	if len(flows) != 2 || flows[0].RedirectedBytes != 5000 || flows[1].RedirectedBytes != 5000 {
		t.Errorf("live flows: %+v", flows)
	}
	wantFlows(t, d, RoleActive, ResultJoined, 2)
}

// The send queue of a pair over TCP is limited by TCP_NOTSENT_LOWAT, the mark. A socket that leaves gets its
// own mark back, and a mark that the program has set stays.
func notSentMark(t *testing.T, c *net.TCPConn) (value int) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) (err error) {
		value, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		return err
	})
	return value
}

func TestNotSentMarkIsSetOnPairsOnly(t *testing.T) {
	s := defaults
	s.WithoutGuards = []string{GuardObserve, GuardOptions} // which would hide it
	d, g := load(t, s), newGroup(t)
	g.attach(t, d)
	mark := func(c *net.TCPConn) int { return notSentMark(t, c) }
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	if mark(client) != 4095 || mark(server) != 4095 {
		t.Errorf("a pair has the marks %d and %d", mark(client), mark(server))
	}
	l := listen(t, "tcp4", "127.0.0.1:0") // outside
	g.in(t, func() { client = dial(t, "tcp4", l.Addr().String()) })
	send(t, client, accept(t, l), 1, 1)
	if got := mark(client); got != 0 {
		t.Errorf("a socket that left has the mark %d", got)
	}
	var inner net.Listener
	g.in(t, func() { inner = listen(t, "tcp4", "127.0.0.1:0") })
	raw, err := inner.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rawSocket{raw}.control(t, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 77)
	})
	g.in(t, func() { dial(t, "tcp4", inner.Addr().String()) })
	if got := mark(accept(t, inner)); got != 77 {
		t.Errorf("the mark 77 of the program became %d", got)
	}
}

// A program sees the mark that it has set, and none that it has not.
func TestNotSentMarkIsHiddenFromTheProgram(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	send(t, client, server, 1, 1)
	if mark := notSentMark(t, client); mark != 0 {
		t.Errorf("the program reads %d, and has set none", mark)
	}
	rawConn(t, client).control(t, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 77)
	})
	if mark := notSentMark(t, client); mark != 77 {
		t.Errorf("the program reads %d, and has set 77", mark)
	}
}
