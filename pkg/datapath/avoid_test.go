// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"golang.org/x/sys/unix"
)

func put[V any](t *testing.T, d *Datapath, pin string, key any, value *V) {
	t.Helper()
	m, err := d.mapOf(pin, unsafe.Sizeof(*value))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Put(key, value); err != nil {
		t.Fatal(err)
	}
}

// notePort writes what an observer records of a server, as if it were so long ago.
func notePort(t *testing.T, d *Datapath, netns uint64, port uint16, ago time.Duration) {
	t.Helper()
	notePortAgain(t, d, netns, port, ago, 0)
}

func notePortAgain(t *testing.T, d *Datapath, netns uint64, port uint16, ago time.Duration, again uint32) {
	t.Helper()
	noted := bpf.SockmapAvoided{
		NotedNs: uint64(monotonic() - int64(ago)),
		Habits:  uint32(bpf.SockmapHabitHABIT_OOB | bpf.SockmapHabitHABIT_BLOCKS), Again: again,
	}
	put(t, d, bpf.SockmapMapAvoid, bpf.SockmapListeningPort{Netns: netns, Port: port}, &noted)
}

// noteDestination writes what an observer records of a client.
func noteDestination(t *testing.T, d *Datapath, netns uint64, to netip.AddrPort, ago time.Duration) {
	t.Helper()
	key := bpf.SockmapDestination{Netns: netns, Port: hostOrder(to.Port()), Family: unix.AF_INET}
	copy(key.Addr[:], to.Addr().AsSlice())
	known := bpf.SockmapHistory{
		Fruitless: fruitlessMax, Avoided: 1, Why: uint8(ResultAvoided),
		RestedNs: uint64(monotonic() + int64(AvoidFor-ago)),
	}
	put(t, d, bpf.SockmapMapHistory, key, &known)
}

func TestAvoidedEntriesAreListedUntilTheyExpire(t *testing.T) {
	d := load(t, bounded(64, 4096, 16))
	if all, err := d.ListAvoided(); len(all) != 0 || err != nil {
		t.Errorf("nothing was seen yet: %v, %v", all, err)
	}
	to := netip.MustParseAddrPort("10.0.0.7:80")
	notePort(t, d, 7, 80, 4*time.Minute)
	notePort(t, d, 7, 81, AvoidFor+time.Second)
	noteDestination(t, d, 8, to, time.Minute)
	noteDestination(t, d, 9, to, AvoidFor+time.Second)
	put(t, d, bpf.SockmapMapHistory, bpf.SockmapDestination{Netns: 3}, &bpf.SockmapHistory{Fruitless: 1})
	all, err := d.ListAvoided()
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	slices.SortFunc(all, func(a, b Avoided) int { return int(a.NetNSCookie) - int(b.NetNSCookie) })
	port, there := all[0], all[1]
	if port.NetNSCookie != 7 || port.Port != 80 || port.Destination.IsValid() ||
		!slices.Equal(port.Why, []Reason{ReasonOOB, ReasonBlocking}) ||
		port.Left.Round(10*time.Second) != 6*time.Minute {
		t.Errorf("a server's port: %+v", port)
	}
	if there.NetNSCookie != 8 || there.Port != 80 || there.Destination != to ||
		!slices.Equal(there.Why, []Reason{ReasonOOB}) ||
		there.Left.Round(10*time.Second) != 9*time.Minute {
		t.Errorf("a client's destination: %+v", there)
	}
}

func TestForgetAvoidedRemovesMatchingEntries(t *testing.T) {
	d := load(t, bounded(64, 4096, 16))
	to := netip.MustParseAddrPort("10.0.0.7:80")
	notePort(t, d, 7, 80, 0)
	notePort(t, d, 7, 81, 0)
	noteDestination(t, d, 8, to, 0)
	forget := func(matches func(Avoided) bool, forgotten, left int) {
		t.Helper()
		n, err := d.ForgetAvoided(matches)
		if err != nil || n != forgotten {
			t.Errorf("%d forgotten, %v; want %d", n, err, forgotten)
		}
		if all, err := d.ListAvoided(); len(all) != left || err != nil {
			t.Errorf("left are %+v, %v; want %d", all, err, left)
		}
	}
	forget(func(Avoided) bool { return false }, 0, 3)
	forget(func(a Avoided) bool { return a.Port == 81 }, 1, 2)
	forget(func(Avoided) bool { return true }, 2, 0)
}

// Habits that guards have seen keep later connections on TCP for ten minutes.
func TestAvoidedConnectionsAreTakenAgainAfterAWhile(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	to := l.Addr().(*net.TCPAddr).AddrPort()
	host := netnstest.Cookie(t)
	joins := func(when string, want Result) {
		t.Helper()
		before := results(t, d)
		g.short(t, l, 1)
		if after := results(t, d); after[want] != before[want]+1 {
			t.Errorf("%s: %v, before: %v; want one more %s", when, after, before, want)
		}
	}
	joins("nothing is known", ResultJoined)
	notePort(t, d, host, to.Port(), AvoidFor-5*time.Second)
	joins("the server's port is avoided", ResultAvoided)
	notePort(t, d, host, to.Port(), AvoidFor+time.Second)
	joins("that is over", ResultJoined)
	notePortAgain(t, d, host, to.Port(), 2*AvoidFor-5*time.Second, 1)
	joins("it was noted again after that", ResultAvoided)
	notePortAgain(t, d, host, to.Port(), 2*AvoidFor+time.Second, 1)
	joins("that is over, too", ResultJoined)
	noteDestination(t, d, host+1, to, 0)
	joins("another client's destination is avoided", ResultJoined)
	noteDestination(t, d, host, to, AvoidFor-5*time.Second)
	for range 3 {
		joins("the own destination is avoided", ResultAvoided)
	}
	noteDestination(t, d, host, to, AvoidFor+time.Second)
	joins("that is over, too", ResultJoined)
	joins("and stays over", ResultJoined)
}

// The end of a live connection, good or bad, does not end the avoidance of its destination.
func TestAGoodConnectionDoesNotEndAvoidance(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	var client, server *net.TCPConn
	g.in(t, func() {
		l = listen(t, "tcp4", "127.0.0.1:0")
		client = dial(t, "tcp4", l.Addr().String())
		server = accept(t, l)
	})
	for i := range uint64(10) {
		send(t, client, server, 100, i)
	}
	noteDestination(t, d, netnstest.Cookie(t), l.Addr().(*net.TCPAddr).AddrPort(), 0)
	client.Close()
	server.Close()
	eventually(t, "it has ended", func() bool { return socketsIn(t, d) == 0 })
	g.short(t, l, 1)
	if r := results(t, d); r[ResultAvoided] != 1 {
		t.Errorf("%v, want one avoided", r)
	}
}

// sendOOB sends one urgent byte.
func sendOOB(t *testing.T, c *net.TCPConn) {
	t.Helper()
	rawConn(t, c).control(t, func(fd int) error { return unix.Sendto(fd, []byte("!"), unix.MSG_OOB, nil) })
}

// One client's MSG_OOB keeps only its own later connections to that server on TCP. Without observers this
// cannot be seen.
func TestUrgentByteKeepsOnlyItsSenderOnTCP(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	hostile, honest, place := netnstest.New(t), netnstest.New(t), netnstest.New(t)
	server := joinNamespaces(t, place, hostile, honest)
	var l net.Listener
	g.in(t, func() { place.Do(func() { l = listen(t, "tcp4", server.String()) }) })
	connect := func(from *netnstest.NetNS) (client, at *net.TCPConn) {
		t.Helper()
		g.in(t, func() { from.Do(func() { client = dial(t, "tcp4", l.Addr().String()) }) })
		if client == nil {
			t.FailNow() // dial has said why, on another goroutine
		}
		return client, accept(t, l)
	}
	client, at := connect(hostile)
	send(t, client, at, 100, 1)
	sendOOB(t, client)
	avoided := uint64(0)
	if learns(t, d) {
		avoided = 1
	}
	joined := flowsCounted(t, d, RoleActive, ResultJoined)
	client, at = connect(honest)
	send(t, client, at, 100, 2)
	if n := flowsCounted(t, d, RoleActive, ResultJoined); n != joined+1 {
		t.Errorf("another client's connection: %d joined, want %d; %+v", n, joined+1, results(t, d))
	}
	wantFlows(t, d, RolePassive, ResultAvoided, 0)
	client, at = connect(hostile)
	send(t, client, at, 100, 3)
	wantFlows(t, d, RoleActive, ResultAvoided, avoided)
	all, err := d.ListAvoided()
	if err != nil || uint64(len(all)) != avoided || avoided > 0 &&
		(all[0].NetNSCookie != hostile.Cookie || all[0].Destination != server) {
		t.Errorf("avoided: %+v, %v", all, err)
	}
}
