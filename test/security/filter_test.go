// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// drop makes the pod's packet filter drop packets to a port, as one that enforces NetworkPolicy would.
func drop(t *testing.T, p *lab.Pod, port uint16) {
	t.Helper()
	if _, err := p.Output(t.Context(), "iptables", "-w", "-I", "INPUT", "-p", "tcp", "--dport", fmt.Sprint(port),
		"-j", "DROP"); err != nil {
		t.Fatal(err)
	}
}

// A filter decides when a connection is made, because that takes packets. Redirected bytes are no packets: a
// later rule does not end the connection, and the kill switch does.
func TestPacketFiltersSeeHandshakesAndNotRedirectedBytes(t *testing.T) {
	w := newWorld(t, nil)
	l := listen(t, w.other, port)
	client, server := connect(t, w.attacker, l)
	pass(t, client, server, "before")
	drop(t, w.other, port)
	pass(t, client, server, "behind the filter's back")

	if err := w.d.SetDisabled(true); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("over TCP")); err != nil {
		t.Fatal(err)
	}
	if got, err := take(server, 1, 500*time.Millisecond); err == nil {
		t.Errorf("%q passed the filter", got)
	}
	if err := w.d.SetDisabled(false); err != nil {
		t.Fatal(err)
	}
	if c, err := w.attacker.DialContext(timeout(t), "tcp4", l.Addr().String()); err == nil {
		c.Close()
		t.Error("a new connection passed the filter")
	}
}

// A rule that existed before prevents the connection, accelerated or not.
func TestDeniedConnectionIsNeverMade(t *testing.T) {
	w := newWorld(t, nil)
	l := listen(t, w.other, port)
	drop(t, w.other, port)
	if c, err := w.attacker.DialContext(timeout(t), "tcp4", l.Addr().String()); err == nil {
		c.Close()
		t.Error("the connection passed the filter")
	}
}

// Packet counters and captures miss redirected bytes; sockmap's own counts do not.
func TestRedirectedBytesPassNoInterface(t *testing.T) {
	w := newWorld(t, nil)
	client, server := connect(t, w.attacker, listen(t, w.other, port))
	pass(t, client, server, "hello")
	before := received(t, w.other, "eth0")
	const size, times = 1000, 500
	for range times {
		pass(t, client, server, strings.Repeat("x", size))
	}
	if got := received(t, w.other, "eth0") - before; got > size*times/10 {
		t.Errorf("%d bytes came in at eth0", got)
	}
	if f, _ := w.flowOf(client); f.RedirectedBytes < size*times {
		t.Errorf("sockmap counted %d bytes", f.RedirectedBytes)
	}
}
