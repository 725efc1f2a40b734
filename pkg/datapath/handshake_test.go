// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"net"
	"testing"
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

// fastOpenServer listens in a namespace that allows Fast Open.
func fastOpenServer(t *testing.T, g *group, ns *netnstest.NetNS) net.Listener {
	t.Helper()
	ns.Sysctl(t, "ipv4/tcp_fastopen", "3")
	var l net.Listener
	g.in(t, func() { ns.Do(func() { l = listen(t, "tcp4", "127.0.0.1:0") }) })
	allowFastOpen(t, l)
	return l
}

func allowFastOpen(t *testing.T, l net.Listener) {
	t.Helper()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	rawSocket{raw}.control(t, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16)
	})
}

// fastOpen connects and sends with one call.
func fastOpen(t *testing.T, g *group, ns *netnstest.NetNS, to net.Addr, data []byte) *net.TCPConn {
	t.Helper()
	port := to.(*net.TCPAddr).Port
	fd := -1
	g.in(t, func() {
		ns.Do(func() {
			var err error
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				t.Error(err)
				return
			}
			sa := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
			// The runtime's signal for a thread that runs long may make the kernel begin the call again,
			// after the SYN has taken the data along. In a guest under load the data came twice.
			var before unix.Sigset_t
			preemption := unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGURG - 1)}}
			if err := unix.PthreadSigmask(unix.SIG_BLOCK, &preemption, &before); err != nil {
				t.Error(err)
				return
			}
			if err := unix.Sendto(fd, data, unix.MSG_FASTOPEN, sa); err != nil {
				t.Error(err)
			}
			if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
				t.Error(err)
			}
		})
	})
	return fixture.ConnOf(t, fd)
}

func TestFastOpenPairs(t *testing.T) {
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	l := fastOpenServer(t, g, ns)
	// The first connection only asks for a cookie; those after it carry data on the SYN, and the passive end
	// comes first.
	for round := range uint64(5) {
		data := pattern(make([]byte, 500), round)
		client := fastOpen(t, g, ns, l.Addr(), data)
		server := accept(t, l)
		onSYN := synDataAcked(t, client)
		if onSYN != (round > 0) {
			t.Fatalf("round %d: data on the SYN accepted: %v", round, onSYN)
		}
		receive(t, server, data)
		send(t, client, server, 100<<10, round+1)
		send(t, server, client, 100<<10, round+2)
		c, _ := flowOf(t, d, client)
		s, _ := flowOf(t, d, server)
		if c.RedirectedBytes != 100<<10 || c.TCPBytes != 500 || s.RedirectedBytes != 100<<10 {
			t.Errorf("round %d: want all but the first 500 bytes redirected:\n%+v\n%+v", round, c, s)
		}
		client.Close()
		server.Close()
	}
	wantFlows(t, d, RoleActive, ResultJoined, 5)
}

func TestFastOpenToAnOutsideServerLeaves(t *testing.T) {
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	ns.Sysctl(t, "ipv4/tcp_fastopen", "3")
	var l net.Listener
	ns.Do(func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	allowFastOpen(t, l)
	for round := range uint64(3) {
		data := pattern(make([]byte, 500), round)
		client := fastOpen(t, g, ns, l.Addr(), data)
		server := accept(t, l)
		receive(t, server, data)
		send(t, client, server, 10<<10, round)
		send(t, server, client, 10<<10, round)
		wantNoSockets(t, d)
	}
	wantFlows(t, d, RoleActive, ResultRemote, 3)
}

func synDataAcked(t *testing.T, c *net.TCPConn) (acked bool) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			acked = info.Options&32 != 0 // TCPI_OPT_SYN_DATA
		}
		return err
	})
	return acked
}

// With TCP_REPAIR a process sets any sequence numbers and connects without a packet. Such a socket must not
// replace another.
func TestRepairedSocketDoesNotEnterTheSockhash(t *testing.T) {
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	fd := -1
	g.in(t, func() {
		ns.Do(func() {
			var err error
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				t.Error(err)
			}
			to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
				t.Error(err)
			}
			if err := unix.Connect(fd, to); err != nil {
				t.Error(err)
			}
		})
	})
	defer unix.Close(fd)
	wantNoSockets(t, d)
	wantFlows(t, d, RoleActive, Result(bpf.SockmapResultRESULT_REPAIR), 1)
}

func TestMPTCPIsNotRedirected(t *testing.T) {
	for _, tt := range []struct {
		name           string
		client, server bool
		redirected     bool
	}{
		{"both ends", true, true, false},
		{"listener only, as Go does by default", false, true, true},
		{"client only", true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, g := load(t, defaults), newGroup(t)
			g.attach(t, d)
			var l net.Listener
			var client net.Conn
			g.in(t, func() {
				var lc net.ListenConfig
				lc.SetMultipathTCP(tt.server)
				var err error
				if l, err = lc.Listen(context.Background(), "tcp4", "127.0.0.1:0"); err != nil {
					t.Error(err)
				}
			})
			t.Cleanup(func() { l.Close() })
			g.in(t, func() {
				var dialer net.Dialer
				dialer.SetMultipathTCP(tt.client)
				var err error
				if client, err = dialer.Dial("tcp4", l.Addr().String()); err != nil {
					t.Error(err)
				}
			})
			t.Cleanup(func() { client.Close() })
			server := accept(t, l)
			send(t, client, server, 1<<20, 1)
			send(t, server, client, 1<<20, 2)
			redirected := false
			for _, f := range d.flowsOf(t) {
				redirected = redirected || f.RedirectedBytes > 0
			}
			if redirected != tt.redirected {
				t.Errorf("redirected: %v, want %v: %+v", redirected, tt.redirected, d.flowsOf(t))
			}
		})
	}
}

// Three namespaces, because none gets all the room.
func TestFullMapLeavesConnectionsOnTCP(t *testing.T) {
	d, g := load(t, bounded(4, 4<<20, 4096)), newGroup(t)
	g.attach(t, d)
	for i := range uint64(3) {
		ns := netnstest.New(t)
		register(t, d, ns)
		client, server := g.pairIn(t, ns)
		send(t, client, server, 10<<10, i)
		send(t, server, client, 10<<10, i)
	}
	if n := socketsIn(t, d); n != 4 {
		t.Errorf("%d sockets are in a sockhash of 4", n)
	}
	wantFlows(t, d, RoleActive, ResultMapFull, 1)
	wantFlows(t, d, RolePassive, ResultJoined, 2)
}

// There is room for the active end and none for the passive end: the active one must leave again.
func TestMapFullForThePassiveEndOnly(t *testing.T) {
	for _, tt := range []struct {
		room   uint32
		before int // pairs, of a namespace of their own
		why    Result
	}{{5, 2, ResultMapFull}, {1, 0, ResultShare}} {
		t.Run(tt.why.String(), func(t *testing.T) {
			d, g := load(t, bounded(tt.room, 4<<20, 4096)), newGroup(t)
			g.attach(t, d)
			for range tt.before {
				ns := netnstest.New(t)
				register(t, d, ns)
				g.pairIn(t, ns)
			}
			ns := netnstest.New(t)
			register(t, d, ns)
			client, server := g.pairIn(t, ns)
			send(t, client, server, 10<<10, 1)
			send(t, server, client, 10<<10, 2)
			if n := socketsIn(t, d); n != 2*tt.before {
				t.Errorf("%d sockets are in the sockhash, want %d", n, 2*tt.before)
			}
			wantFlows(t, d, RolePassive, tt.why, 1)
			wantFlows(t, d, RoleActive, ResultRemote, 1)
		})
	}
}

// Another flow has the same two numbers: stay on TCP, and leave the other's entry alone. The numbers cannot
// be chosen, so the handshake is held up until the entry that it will ask for is there.
func TestCollisionStaysOnTCP(t *testing.T) {
	d, g, ns := load(t, defaults), newGroup(t), netnstest.New(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { ns.Do(func() { l = listen(t, "tcp4", "127.0.0.1:7000") }) })
	flows, err := d.mapOf(bpf.SockmapMapFlows, unsafe.Sizeof(bpf.SockmapRendezvous{}))
	if err != nil {
		t.Fatal(err)
	}
	var client *net.TCPConn
	held := holdHandshake(t, ns, 7000, func(own, peer uint32) {
		other := bpf.SockmapRendezvous{ActiveSk: 1, PassiveSk: 2}
		if err := flows.Put(bpf.SockmapIsnPair{Own: own, Peer: peer}, &other); err != nil {
			t.Error(err)
		}
	})
	g.in(t, func() { ns.Do(func() { client = dial(t, "tcp4", "127.0.0.1:7000") }) })
	key := <-held
	server := accept(t, l)
	send(t, client, server, 10<<10, 1)
	send(t, server, client, 10<<10, 2)
	wantNoSockets(t, d)
	wantFlows(t, d, RoleActive, Result(bpf.SockmapResultRESULT_COLLISION), 1)
	var kept bpf.SockmapRendezvous
	if err := flows.Lookup(key, &kept); err != nil || kept.ActiveSk != 1 || kept.PassiveSk != 2 {
		t.Errorf("the other flow's entry was touched: %+v, %v", kept, err)
	}
}
