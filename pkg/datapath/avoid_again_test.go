// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// If the program of a server blocks, each new attempt moves one connection from redirect to TCP. The
// intervals between the attempts grow. Without observers this cannot be seen.
func TestAPortThatIsSeenAgainIsAvoidedForLonger(t *testing.T) {
	d, g := load(t, guarded), newGroup(t)
	g.attach(t, d)
	if !learns(t, d) {
		t.Log("no observers here: a port is not noted")
	}
	var l net.Listener
	g.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	// block lets programs block in accelerated connections, several at a time, and returns for how long the port
	// is avoided now.
	block := func() time.Duration {
		t.Helper()
		var clients, servers [3]*net.TCPConn
		g.in(t, func() {
			for i := range clients {
				clients[i] = dial(t, "tcp4", l.Addr().String())
				servers[i] = accept(t, l)
			}
		})
		for i := range clients {
			exchangeBlocking(t, clients[i], blockingFile(t, servers[i]))
			clients[i].Close()
			servers[i].Close()
		}
		all, err := d.ListAvoided()
		if err != nil || len(all) > 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		if len(all) == 0 {
			return 0
		}
		return all[0].Left.Round(time.Minute)
	}
	for again, want := range []time.Duration{AvoidFor, 2 * AvoidFor, 4 * AvoidFor, 8 * AvoidFor, 16 * AvoidFor,
		32 * AvoidFor,
		64 * AvoidFor, 64 * AvoidFor} {
		if again > 0 {
			over := AvoidFor << min(again-1, 6)
			notePortAgain(t, d, netnstest.Cookie(t), port, over+time.Second, uint32(min(again-1, 6)))
		}
		if !learns(t, d) {
			want = 0
		}
		if left := block(); left != want {
			t.Errorf("seen again %d times: avoided for %v, want %v", again, left, want)
		}
	}
}
