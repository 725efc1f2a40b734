// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
	"time"
)

// keptOut makes this many connections, and counts those that are TCP from the start.
func (g *group) keptOut(t *testing.T, d *Datapath, l net.Listener, connections int) (out int) {
	t.Helper()
	for range connections {
		client, server := g.dialTo(t, l)
		if _, ok := flowOf(t, d, client); !ok {
			out++
		}
		client.Close()
		server.Close()
	}
	return out
}

func (g *group) dialTo(t *testing.T, l net.Listener) (client, server *net.TCPConn) {
	t.Helper()
	g.in(t, func() {
		client = dial(t, "tcp4", l.Addr().String())
		server = accept(t, l)
	})
	return client, server
}

// streamLeaves is a connection to l that has left, and is closed.
func (g *group) streamLeaves(t *testing.T, d *Datapath, l net.Listener) {
	t.Helper()
	client, server := g.dialTo(t, l)
	corkedAnswers(t, d, client, server, 2*lossesCorked)
	wantLeft(t, d, client, server)
	client.Close()
	server.Close()
	wantNoSockets(t, d)
}

// Four streams keep later connections on TCP. Short connections before them do not count as streams.
func TestShortConnectionsAreNoStreams(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	for range 10 {
		client, server := g.dialTo(t, l)
		send(t, client, server, 100, 1)
		send(t, server, client, 100, 1)
		client.Close()
		server.Close()
		wantNoSockets(t, d)
	}
	g.streamLeaves(t, d, l)
	if out := g.keptOut(t, d, l, 16); out != 0 {
		t.Errorf("after one stream %d of 16 connections are TCP from the start", out)
	}
}

// Flows that gain, and are evicted while the last message happens to have gone over TCP.
func TestEvictedFlowsAreNotRecordedAsStreams(t *testing.T) {
	const message = 1 << 20 // more than may wait, and less than TCP takes
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	for range 4 {
		client, server := g.dialTo(t, l)
		for i := range uint64(100) {
			send(t, client, server, 1000, i)
			send(t, server, client, 1000, i)
		}
		if err := client.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write(make([]byte, message)); err != nil {
			t.Fatal(err)
		}
		if f, _ := flowOf(t, d, client); f.Mode != ModeTCP || f.Reason != ReasonBacklogBytes {
			t.Errorf("the sender has not changed to TCP: %+v", f)
		}
		receive(t, server, make([]byte, message))
		evictAll(t, d)
		if err := d.SetDisabled(false); err != nil {
			t.Fatal(err)
		}
		client.Close()
		server.Close()
		wantNoSockets(t, d)
	}
	if out := g.keptOut(t, d, l, 16); out != 0 {
		t.Errorf("%d of 16 connections are TCP from the start", out)
	}
}
