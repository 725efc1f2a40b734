// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

const megabyte = 1 << 20

// The bytes that one end sends until the other has read them all. A burst fits into the smallest first
// window, so that a reader that is late on a busy machine sends nothing to TCP.
const (
	pairBurst  = 128 << 10
	pairBursts = 4 * megabyte / pairBurst
)

// All ways in which two sockets of one node can be connected. Pairing ignores addresses, so each redirects.
func TestEveryKindOfPairRedirects(t *testing.T) {
	w := newWorld(t, nil)
	client, server := w.pod(lab.PodSpec{Name: "client"}), w.pod(lab.PodSpec{Name: "server"})
	d := w.datapath()
	const servicePort, sidecarPort, outPort = 80, 15006, 15001
	kinds := []struct {
		name   string
		listen string
		from   *lab.Pod
		to     func(port uint16) string
	}{
		{"IPv4 across pods", "0.0.0.0:0", client, func(p uint16) string { return at(server.IP4(), p) }},
		{"IPv6 across pods", "[::]:0", client, func(p uint16) string { return at(server.IP6(), p) }},
		{"IPv4 to a dual-stack listener", "[::]:0", client, func(p uint16) string { return at(server.IP4(), p) }},
		{"loopback inside a pod", "127.0.0.1:0", server,
			func(p uint16) string { return at(netip.MustParseAddr("127.0.0.1"), p) }},
		{"IPv6 loopback inside a pod", "[::1]:0", server,
			func(p uint16) string { return at(netip.MustParseAddr("::1"), p) }},
		{"own address inside a pod", "[::]:0", server, func(p uint16) string { return at(server.IP4(), p) }},
		{"service address (DNAT)", "[::]:0", client, func(p uint16) string {
			return service(t, w.node, "10.96.0.1", server.IP4(), p)
		}},
		{"IPv6 service address (DNAT)", "[::]:0", client, func(p uint16) string {
			return service(t, w.node, "fd96::1", server.IP6(), p)
		}},
		{"own service address (hairpin)", "[::]:0", server, func(p uint16) string {
			return service(t, w.node, "10.96.0.2", server.IP4(), p)
		}},
		{"REDIRECT on the way in", "[::]:0", client, func(p uint16) string {
			redirect(t, server, sidecarPort, p, false)
			return at(server.IP4(), sidecarPort)
		}},
		{"REDIRECT on the way out", "[::]:0", server, func(p uint16) string {
			redirect(t, server, outPort, p, true)
			return at(netip.MustParseAddr("1.2.3.4"), outPort)
		}},
	}
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			l := listen(t, &server.Place, kind.listen)
			c, s := connect(t, &kind.from.Place, kind.to(port(l)), l)
			for range pairBursts {
				duplex(t, c, s, pairBurst)
			}
			wantRedirected(t, d, pairBursts*pairBurst, c, s)
		})
	}
}

// service makes a service address that leads to the backend.
func service(t *testing.T, n *lab.Node, vip string, backend netip.Addr, port uint16) string {
	t.Helper()
	address := netip.AddrPortFrom(netip.MustParseAddr(vip), 80)
	if err := n.Service(address, netip.AddrPortFrom(backend, port)); err != nil {
		t.Fatal(err)
	}
	return address.String()
}

func redirect(t *testing.T, p *lab.Pod, from, to uint16, out bool) {
	t.Helper()
	if err := p.Redirect(from, to, out); err != nil {
		t.Fatal(err)
	}
}

func TestOffNodePeersAreLeftAlone(t *testing.T) {
	w := newWorld(t, nil)
	pod := w.pod(lab.PodSpec{Name: "pod"})
	d := w.datapath()
	host, err := w.node.External(t.Context(), "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("off-node server", func(t *testing.T) {
		l := listen(t, &host.Place, "[::]:0")
		c, s := connect(t, &pod.Place, at(host.IPs()[0], port(l)), l)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the client has left", func() bool { return len(ends(t, d, c)) == 0 })
		duplex(t, c, s, 4*megabyte)
		wantPlain(t, d, c, s)
	})
	t.Run("off-node client", func(t *testing.T) {
		l := listen(t, &pod.Place, "[::]:0")
		c, s := connect(t, &host.Place, at(pod.IP4(), port(l)), l)
		wantPlain(t, d, c, s)
		duplex(t, c, s, 4*megabyte)
		wantPlain(t, d, c, s)
	})
	t.Run("a process of the node itself", func(t *testing.T) {
		l := listen(t, &pod.Place, "[::]:0")
		c, s := connect(t, &w.node.Place, at(pod.IP4(), port(l)), l)
		duplex(t, c, s, 4*megabyte)
		wantPlain(t, d, c, s)
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	fixture.Wait(t, what, ok)
}

// The same four loopback values in two pods at the same time: a key made of addresses would send one pod's
// bytes to the other.
func TestSameLoopbackAddressesInTwoPodsDoNotMeet(t *testing.T) {
	w := newWorld(t, nil)
	pods := []*lab.Pod{w.pod(lab.PodSpec{Name: "a"}), w.pod(lab.PodSpec{Name: "b"})}
	d := w.datapath()
	type pair struct{ client, server net.Conn }
	var pairs []pair
	for _, pod := range pods {
		l := listen(t, &pod.Place, "127.0.0.1:8080")
		c, s := connect(t, &pod.Place, "127.0.0.1:8080", l)
		pairs = append(pairs, pair{c, s})
	}
	for range 20 {
		for _, p := range pairs {
			duplex(t, p.client, p.server, 64<<10)
		}
	}
	for _, f := range ends(t, d, pairs[0].server, pairs[1].server) {
		if f.RedirectedBytes == 0 {
			t.Errorf("not redirected: %+v", f)
		}
	}
}

func TestTenThousandShortConnectionsAcrossEightPairs(t *testing.T) {
	w := newWorld(t, nil)
	var dials []traffic.Dial
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range 8 {
		client, server := w.pod(lab.PodSpec{}), w.pod(lab.PodSpec{})
		l := listen(t, &server.Place, "[::]:8080")
		go traffic.Serve(ctx, l, traffic.Echo)
		to := at(server.IP4(), 8080)
		dials = append(dials, func(ctx context.Context) (net.Conn, error) {
			return client.DialContext(ctx, "tcp", to)
		})
	}
	began := time.Now()
	if _, err := traffic.ShortConns(ctx, dials, traffic.Requests{Size: 500, Count: 10_000}); err != nil {
		t.Fatal(err)
	}
	later := uint64(time.Since(began)/(50*time.Millisecond)) + 1
	d := w.datapath()
	eventually(t, "no socket is left", func() bool { return liveFlows(t, d) == 0 })
	sums := totals(t, d)
	active := sums.Flows[datapath.RoleActive]
	joined := active[datapath.ResultJoined]
	// Of each pair the first 256, 32 for observation, and one per 50 ms of the others: a connection with one
	// request gains nothing, see docs/adr/0011.
	if joined < 8*256 || joined > 8*(256+32+later) || joined+active[datapath.ResultShort] != 10_000 {
		t.Errorf("of 10000 connections %d were joined and %d left out: %+v", joined, active[datapath.ResultShort],
			sums)
	}
	if sums.RedirectedBytes+sums.TCPBytes != 2*joined*500 || sums.RedirectedBytes < sums.TCPBytes {
		t.Errorf("counted %d bytes redirected and %d over TCP, %d connections sent %d",
			sums.RedirectedBytes, sums.TCPBytes, joined, 2*joined*500)
	}
}
