// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

const (
	fruitlessMax = 256 // FRUITLESS_MAX of bpf/avoid.h, LET_IN_EVERY_NS and LET_IN_AT_ONCE of bpf/history.h
	letInEvery   = 50 * time.Millisecond
	letInAtOnce  = 32
)

// short makes connections to l that carry one message each way, one after the other.
func (g *group) short(t *testing.T, l net.Listener, n int) {
	t.Helper()
	for i := range uint64(n) {
		var client, server *net.TCPConn
		g.in(t, func() {
			client = dial(t, "tcp4", l.Addr().String())
			server = accept(t, l)
		})
		send(t, client, server, 10, i)
		send(t, server, client, 10, i)
		client.Close()
		server.Close()
	}
}

// results of the active ends so far.
func results(t *testing.T, d *Datapath) map[Result]uint64 {
	t.Helper()
	all, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	sum := map[Result]uint64{}
	for _, s := range all {
		for result, n := range s.Flows[RoleActive] {
			sum[Result(result)] += n
		}
	}
	return sum
}

func TestShortConnectionsStayOnTCPAfterAWhile(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	g.short(t, l, fruitlessMax)
	if r := results(t, d); r[ResultJoined] != fruitlessMax || r[ResultShort] != 0 {
		t.Fatalf("before anything is known: %v", r)
	}
	began := time.Now()
	g.short(t, l, 100)
	r := results(t, d)
	letIn := r[ResultJoined] - fruitlessMax
	if most := letInSince(began); letIn < letInAtOnce || letIn > most || r[ResultShort] != 100-letIn {
		t.Errorf("afterwards: %v, want 32 let in at first, and no more than %d", r, most)
	}
	before := r[ResultJoined]
	fixture.Elapse(2*letInEvery, "LET_IN_EVERY_NS, by a coarse clock")
	g.short(t, l, 1)
	if r := results(t, d); r[ResultJoined] != before+1 {
		t.Errorf("after a while: %v, want one let in", r)
	}
	var other net.Listener
	g.in(t, func() { other = listen(t, "tcp4", "127.0.0.1:0") })
	g.short(t, other, 3)
	if r := results(t, d); r[ResultJoined] != before+4 {
		t.Errorf("another destination: %v, want all let in", r)
	}
	wantNoSockets(t, d)
}

// letInSince is the most connections that may have entered as samples since t. The programs' clock is a
// coarse one.
func letInSince(t time.Time) uint64 { return letInAtOnce + uint64(time.Since(t)/(letInEvery*4/5)) + 1 }

func TestGainfulConnectionEndsTheShortHistory(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	g.short(t, l, fruitlessMax+100)
	fixture.Elapse(2*letInEvery, "LET_IN_EVERY_NS, by a coarse clock")
	var client, server *net.TCPConn
	g.in(t, func() {
		client = dial(t, "tcp4", l.Addr().String())
		server = accept(t, l)
	})
	// What the server sends counts as much as what the client does.
	for i := range uint64(10) {
		send(t, server, client, 10, i)
	}
	if f, ok := flowOf(t, d, server); !ok || f.RedirectedBytes != 100 {
		t.Fatalf("the one that is let in: %+v", f)
	}
	server.Close() // first: the client must still learn what it had sent
	client.Close()
	before := results(t, d)
	g.short(t, l, 10)
	after := results(t, d)
	if after[ResultJoined] != before[ResultJoined]+10 || after[ResultShort] != before[ResultShort] {
		t.Errorf("after a good one: %v, before: %v", after, before)
	}
}

func TestOffNodeDestinationsStartAsTCP(t *testing.T) {
	const more = 4 * letInAtOnce
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	l := listen(t, "tcp4", "127.0.0.1:0") // not in the group
	// Until the other end replies, a client that was let in is in the sockhash. Each look takes a while, in
	// which more would be let in, so all n connect before the first look.
	connect := func(n int, look bool) (letIn int) {
		clients, servers := make([]*net.TCPConn, n), make([]*net.TCPConn, n)
		for i := range n {
			g.in(t, func() { clients[i] = dial(t, "tcp4", l.Addr().String()) })
			servers[i] = accept(t, l)
		}
		for i := range n {
			if look {
				if _, ok := flowOf(t, d, clients[i]); ok {
					letIn++
				}
			}
			send(t, servers[i], clients[i], 10, uint64(i))
			clients[i].Close()
			servers[i].Close()
		}
		return letIn
	}
	for range fruitlessMax - 1 {
		connect(1, false)
	}
	if connect(1, true) != 1 {
		t.Error("left out before enough is known")
	}
	if n := connect(more, true); n == more {
		t.Error("all are let in although nothing is gained")
	}
	if r := results(t, d); r[ResultRemote] != fruitlessMax+more {
		t.Errorf("%v, want all remote", r)
	}
	wantNoSockets(t, d)
}
