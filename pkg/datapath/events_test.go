// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

func eventCount(t *testing.T, d *Datapath, e Event) uint64 {
	t.Helper()
	all, err := d.Events()
	if err != nil {
		t.Fatal(err)
	}
	return all[e]
}

// backlogHigh is the largest backlog that closed senders have recorded.
func backlogHigh(t *testing.T, d *Datapath) (high uint64) {
	t.Helper()
	all, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	for _, sum := range all {
		high = max(high, sum.BacklogHigh)
	}
	return high
}

func TestBacklogHighIsTheLargestBacklog(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	want := pattern(make([]byte, 300<<10), 1)
	if _, err := client.Write(want); err != nil { // in one message, which nobody reads meanwhile
		t.Fatal(err)
	}
	receive(t, server, want)
	send(t, client, server, 10, 2) // less waits than before
	live, ok := flowOf(t, d, client)
	if !ok || live.BacklogHigh < 300<<10 || live.BacklogHigh > 4<<20 {
		t.Errorf("the live sender has seen %d bytes wait, want at least the %d that did, and no more than the bound", live.BacklogHigh, 300<<10)
	}
	if got := backlogHigh(t, d); got != 0 {
		t.Errorf("before the sender closes its %d bytes are in the totals", got)
	}
	client.Close()
	server.Close()
	eventually(t, "both ends have closed", func() bool { return socketsIn(t, d) == 0 })
	if got := backlogHigh(t, d); got != uint64(live.BacklogHigh) {
		t.Errorf("the totals have %d bytes, the live sender had %d", got, live.BacklogHigh)
	}
}

func TestEvictedRendezvousIsCountedOnce(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	f, ok := flowOf(t, d, client)
	if !ok {
		t.Fatal("the client is not among the live flows")
	}
	m, err := d.mapOf(bpf.SockmapMapFlows, unsafe.Sizeof(bpf.SockmapRendezvous{}))
	if err != nil {
		t.Fatal(err)
	}
	// what the kernel does when the map is full
	if err := m.Delete(bpf.SockmapIsnPair{Own: f.Key.Own, Peer: f.Key.Peer}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		send(t, client, server, 100, i)
	}
	if n := eventCount(t, d, EventRendezvousLost); n != 1 {
		t.Errorf("counted %d times, want once", n)
	}
}

func TestClosedFlowsLoseNoRendezvous(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	for i := range uint64(20) {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		if i%2 == 0 {
			send(t, client, server, 10, i)
		}
		server.Close()
		_, _ = client.Write([]byte("x")) // the peer has closed
		client.Close()
	}
	if n := eventCount(t, d, EventRendezvousLost); n != 0 {
		t.Errorf("%d rendezvous count as lost", n)
	}
}
