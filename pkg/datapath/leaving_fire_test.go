// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

const (
	fireThreads = 4       // that send at each end; a byte has two bits for its thread
	fireBytes   = 1 << 20 // of each
)

// Both ends are made to leave at a random moment, while several threads send at each: no byte is lost or out
// of its thread's order, no send fails, and both are plain TCP in the end.
func TestLeavingDuringConcurrentSendsLosesNothing(t *testing.T) {
	d, g := load(t, defaults), newGroup(t)
	g.attach(t, d)
	left, random := 0, fixture.Rand(t)
	for round := range 30 {
		client, server := g.pair(t, "tcp4", "127.0.0.1:0")
		var work sync.WaitGroup
		for _, c := range []*net.TCPConn{client, server} {
			for thread := range fireThreads {
				own := rand.New(rand.NewPCG(random.Uint64(), 0))
				work.Go(func() { fire(t, c, byte(thread), own) })
			}
			work.Go(func() { underFire(t, c) })
		}
		fixture.Elapse(time.Duration(random.IntN(30))*time.Millisecond, "a random moment of the traffic")
		if err := d.SetDisabled(true); err != nil {
			t.Fatal(err)
		}
		work.Wait()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		eventually(t, "both ends have left", func() bool {
			send(t, client, server, 10, 1)
			send(t, server, client, 10, 1)
			one, _ := flowOf(t, d, client)
			other, _ := flowOf(t, d, server)
			return one.Left && other.Left
		})
		if f, _ := flowOf(t, d, client); f.RedirectedBytes > 0 {
			left++
		}
		client.Close()
		server.Close()
		if err := d.SetDisabled(false); err != nil {
			t.Fatal(err)
		}
	}
	if left == 0 {
		t.Error("no connection was redirected before it left")
	}
	eventually(t, "the sockhash is empty", func() bool {
		n, err := d.CountSockets()
		return err == nil && n == 0
	})
	t.Logf("%d connections left after redirected bytes", left)
}

// fire sends bytes with the number of their thread and a counter.
func fire(t *testing.T, c net.Conn, thread byte, random *rand.Rand) {
	buf := make([]byte, 16<<10)
	for sent := 0; sent < fireBytes; {
		n := min(1+random.IntN(len(buf)), fireBytes-sent)
		for i := range n {
			buf[i] = thread<<6 | byte(sent+i)&63
		}
		if _, err := c.Write(buf[:n]); err != nil {
			t.Errorf("thread %d after %d bytes: %v", thread, sent, err)
			return
		}
		sent += n
	}
}

func underFire(t *testing.T, c net.Conn) {
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	var got [fireThreads]int
	buf := make([]byte, 64<<10)
	for total := 0; total < fireThreads*fireBytes; {
		n, err := c.Read(buf)
		if err != nil {
			t.Errorf("read after %d bytes, %v of the threads: %v", total, got, err)
			return
		}
		for _, b := range buf[:n] {
			thread := b >> 6
			if b&63 != byte(got[thread])&63 {
				t.Error(fmt.Errorf("byte %d of thread %d is %d", got[thread], thread, b&63))
				return
			}
			got[thread]++
		}
		total += n
	}
}
