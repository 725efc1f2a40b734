// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

const readerReady, readerPlain = 1, 2 // enum reader of bpf/state.h

// A plain reader leaves without a commitment. Its peer, whose messages it does not want redirected, leaves,
// too.
func TestThePeerOfAPlainReaderLeaves(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	if err := d.update(func(c *bpf.SockmapConfig) {
		c.Learn = uint32(bpf.SockmapLearnLEARN_READERS | bpf.SockmapLearnLEARN_BLOCKING)
	}); err != nil {
		t.Fatal(err)
	}
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	observed(t, d, readerPlain, int32(bpf.SockmapHabitHABIT_BLOCKS))
	for i := range uint64(50) {
		send(t, client, server, 1000, i)
		send(t, server, client, 1000, i)
	}
	wantLeft(t, d, client, server)
	if stay := evictAll(t, d); len(stay) != 0 || socketsIn(t, d) != 0 {
		t.Errorf("%d sockets in the sockhash: %v", socketsIn(t, d), stay)
	}
}

// A socket is evicted before both readers are known. The send queue has its own limit again, and keeps it.
func TestSendQueueOfAnEvictedSocketIsNotLimited(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	if err := d.update(func(c *bpf.SockmapConfig) {
		c.Learn = uint32(bpf.SockmapLearnLEARN_READERS | bpf.SockmapLearnLEARN_BLOCKING)
	}); err != nil {
		t.Fatal(err)
	}
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	observed(t, d, readerReady, 0)
	for i := range uint64(5) { // the server only reads; the client has not called receive
		send(t, client, server, 1000, i)
	}
	if greatestMark(t, d) == 0 {
		t.Error("no socket has a mark of ours")
	}
	evictAll(t, d)
	for i := range uint64(50) {
		send(t, client, server, 1000, i)
	}
	if mark := greatestMark(t, d); mark != 0 {
		t.Errorf("mark %d on a socket that has left", mark)
	}
}

// A stream of 64 KiB to a reader that is always behind. Its first message uses TCP for a reason that is soon
// over, or, if probed, its reader may miss an edge: neither is a reason to stay.
func TestStreamToASlowReaderLeavesAfterAnyFirstMessage(t *testing.T) {
	for _, how := range []string{"redirected", "early", "probed"} {
		t.Run(how, func(t *testing.T) {
			d, g := load(t, defaults), newGroup(t)
			g.attach(t, d)
			if err := d.update(func(c *bpf.SockmapConfig) {
				if how == "probed" {
					c.Hazards |= uint32(bpf.SockmapAskedHazardHAZARD_FIONREAD_TCP)
				}
			}); err != nil {
				t.Fatal(err)
			}
			client, server := g.pair(t, "tcp4", "127.0.0.1:0")
			if how != "early" {
				send(t, server, client, 100, 1)
				send(t, client, server, 100, 1)
			}
			streamBehind(t, client, server, func() bool {
				one, _ := flowOf(t, d, client)
				other, _ := flowOf(t, d, server)
				return one.Left && other.Left
			})
		})
	}
}

// streamBehind streams from the server to the client, which reads in blocking calls and is always behind,
// until enough returns true, 10 s at most.
func streamBehind(t *testing.T, client, server *net.TCPConn, enough func() bool) {
	t.Helper()
	f := blockingFile(t, client)
	end := time.Now().Add(10 * time.Second)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 64<<10); time.Now().Before(end); {
			if _, err := server.Write(buf); err != nil {
				return
			}
		}
	}()
	defer func() {
		client.Close()
		f.Close()
		server.Close()
		<-done
	}()
	fixture.Elapse(100*time.Millisecond, "a reader that begins late, when much waits")
	buf := make([]byte, 16<<10)
	for i := 0; ; i++ {
		if i%100 == 0 && enough() {
			return
		}
		if !time.Now().Before(end) {
			t.Fatal("has not left")
		}
		if _, err := unix.Read(int(f.Fd()), buf); err != nil {
			t.Fatal(err)
		}
		fixture.Elapse(200*time.Microsecond, "the pace of a reader that is always behind")
	}
}

// Messages that are always larger than the free part of the reader's buffer all use TCP. Nothing is forgotten
// meanwhile.
func TestAFlowThatNeverRedirectsLeaves(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	client, server := g.pair(t, "tcp4", "127.0.0.1:0")
	if err := server.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both have left", func() bool {
		send(t, client, server, 100<<10, 1)
		send(t, server, client, 100, 1)
		one, _ := flowOf(t, d, client)
		other, _ := flowOf(t, d, server)
		return one.Left && other.Left
	})
}
