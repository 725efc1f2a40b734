// SPDX-License-Identifier: Apache-2.0

package security

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

const port = 7000

// forged is a pod's attempt to be the other end of another pod's connection. The pod plays the server of its
// own socket, on its own wire, and chooses the server's ISN. An accomplice outside, who is a client of the
// victim, uses the ISN of the pod's socket for its own connection.
type forged struct {
	thief  *net.TCPConn // the attacking pod's end
	victim *net.TCPConn // accepted by the other pod from the accomplice
}

// forge makes the handshakes. miss is added to the number that the attacker chooses.
func forge(w *world, miss uint32) forged {
	w.Helper()
	evil, outside := newWire(w.T, w.attacker), newWire(w.T, w.other)
	l := listen(w.T, w.other, port)
	server := netip.AddrPortFrom(w.other.IP4(), port)
	accomplice := netip.AddrPortFrom(beyond.Addr().Next().Next(), 5555)
	fd := beginConnecting(w.T, w.attacker, netip.AddrPortFrom(beyond.Addr().Next(), 80))

	syn := evil.next(flagSYN)
	outside.write(segment{from: accomplice, to: server, seq: syn.seq, flags: flagSYN})
	answer := outside.next(flagSYN | flagACK)
	evil.write(segment{from: syn.to, to: syn.from, seq: answer.seq + miss, ack: syn.seq + 1,
		flags: flagSYN | flagACK})
	evil.next(flagACK)
	outside.write(segment{from: accomplice, to: server, seq: syn.seq + 1, ack: answer.seq + 1, flags: flagACK})
	return forged{thief: fixture.ConnOf(w.T, fd), victim: fixture.Accept(w.T, l)}
}

func beginConnecting(t *testing.T, p *lab.Pod, to netip.AddrPort) (fd int) {
	t.Helper()
	err := p.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		return connectTo(fd, to)
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// reaches sends from the victim and reports whether the attacker receives it.
func (f forged) reaches(t *testing.T) bool {
	t.Helper()
	const secret = "for the client only"
	if _, err := io.WriteString(f.victim, secret); err != nil {
		t.Fatal(err)
	}
	got, _ := take(f.thief, len(secret), 500*time.Millisecond)
	return got == secret
}

// An attacker that knows both ISNs is taken for the other end, and only the policy prevents it. The policy
// depends on the network namespaces of the two sockets, which a pod cannot choose.
func TestOnlyPolicyStopsAnAttackerThatKnowsBothISNs(t *testing.T) {
	for peers, want := range map[string]bool{"node": true, "namespace": false, "pod": false} {
		t.Run(peers, func(t *testing.T) {
			w := newWorld(t, map[string]any{"peers": peers})
			f := forge(w, 0)
			if got := f.reaches(t); got != want {
				t.Errorf("the attacker reads bytes for another: %v, want %v", got, want)
			}
			if n := w.counted(w.other, datapath.RolePassive, datapath.ResultDenied); (n == 1) == want {
				t.Errorf("%d connections of the victim counted as denied", n)
			}
		})
	}
}

// One ISN is not enough, and the entries that the attacker left in the maps exclude no connection.
func TestAttackerThatKnowsOneISNJoinsNoFlow(t *testing.T) {
	w := newWorld(t, nil)
	f := forge(w, 1)
	if f.reaches(t) {
		t.Error("the attacker reads bytes for another")
	}
	if n := w.counted(w.other, datapath.RolePassive, datapath.ResultRemote); n != 1 {
		t.Errorf("%d connections of the victim counted as remote, want 1", n)
	}
	client, server := connect(t, w.attacker, listen(t, w.other, port+1))
	pass(t, client, server, "honest")
	if flow, _ := w.flowOf(client); flow.RedirectedBytes == 0 {
		t.Errorf("an honest connection is not redirected: %+v", flow)
	}
}
