// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
)

const (
	fruitlessMax = 256 // FRUITLESS_MAX and LET_IN_EVERY of bpf/abi.h
	letInEvery   = 32
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
	g.short(t, l, 2*letInEvery)
	if r := results(t, d); r[ResultShort] != 2*letInEvery-2 || r[ResultJoined] != fruitlessMax+2 {
		t.Errorf("afterwards: %v, want all but two left out", r)
	}
	var other net.Listener
	g.in(t, func() { other = listen(t, "tcp4", "127.0.0.1:0") })
	g.short(t, other, 3)
	if r := results(t, d); r[ResultJoined] != fruitlessMax+5 {
		t.Errorf("another destination: %v, want all let in", r)
	}
	wantNoSockets(t, d)
}

func TestAConnectionThatIsWorthItLetsOthersIn(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	g.short(t, l, fruitlessMax+letInEvery-1)
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

func TestDestinationsOffTheNodeAreLeftAlone(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	l := listen(t, "tcp4", "127.0.0.1:0") // not in the group
	for i := range uint64(fruitlessMax + letInEvery) {
		var client *net.TCPConn
		g.in(t, func() { client = dial(t, "tcp4", l.Addr().String()) })
		server := accept(t, l)
		send(t, server, client, 10, i)
		if i == fruitlessMax {
			if _, ok := flowOf(t, d, client); ok {
				t.Error("the client has storage")
			}
		}
		client.Close()
		server.Close()
	}
	if r := results(t, d); r[ResultRemote] != fruitlessMax+letInEvery {
		t.Errorf("%v, want all remote", r)
	}
	wantNoSockets(t, d)
}
