// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/traffic"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// reference is a chain of reference plugins only: the lab must not depend on the plugin that is tested with
// it.
const reference = `{
  "cniVersion": "1.1.0",
  "name": "lab-net",
  "plugins": [
    {
      "type": "bridge", "bridge": "lab0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}`

var dualStack = []netip.Prefix{netip.MustParsePrefix("10.62.0.0/24"), netip.MustParsePrefix("fd62::/64")}

func newNode(t *testing.T) (*lab.Node, []byte) {
	t.Helper()
	n := labtest.NewNode(t, lab.Options{BinDir: labtest.Reference(t)})
	return n, labtest.Conflist(t, n, lab.Network{Base: []byte(reference), Subnets: dualStack})
}

// twoPods makes two pods on one bridge, and an echo server in the second on a port of every address.
func twoPods(t *testing.T) (n *lab.Node, client, server *lab.Pod, port uint16) {
	t.Helper()
	n, conflist := newNode(t)
	client = labtest.NewPod(t, n, lab.PodSpec{Name: "client", Conflist: conflist})
	server = labtest.NewPod(t, n, lab.PodSpec{Name: "server", Conflist: conflist})
	return n, client, server, echo(t, &server.Place, "[::]:0")
}

func echo(t *testing.T, p *lab.Place, addr string) (port uint16) {
	t.Helper()
	l, err := p.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- traffic.Serve(ctx, l, traffic.Echo) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// ask checks that requests from p to addr come back.
func ask(t *testing.T, p *lab.Place, addr netip.AddrPort, opts ...lab.SocketOption) {
	t.Helper()
	c, err := p.Dial("tcp", addr.String(), opts...)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := traffic.RequestResponse(ctx, c, traffic.Requests{Size: 1000, Count: 10}); err != nil {
		t.Errorf("ask %s: %v", addr, err)
	}
}

func TestPodsTalkAcrossTheBridge(t *testing.T) {
	_, client, server, port := twoPods(t)
	if len(server.IPs()) != 2 || !server.IP4().IsValid() || !server.IP6().IsValid() {
		t.Fatalf("addresses %v, want one of each family", server.IPs())
	}
	for _, ip := range server.IPs() {
		ask(t, &client.Place, netip.AddrPortFrom(ip, port))
	}
	ask(t, &server.Place, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
}

func TestServiceLeadsToItsBackend(t *testing.T) {
	n, client, server, port := twoPods(t)
	host, err := n.External(t.Context(), "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ vip, backend netip.Addr }{
		{netip.MustParseAddr("10.96.0.1"), server.IP4()},
		{netip.MustParseAddr("10.96.0.2"), server.IP4()},
		{netip.MustParseAddr("fd96::1"), server.IP6()},
	} {
		vip := netip.AddrPortFrom(c.vip, 80)
		if err := n.Service(vip, netip.AddrPortFrom(c.backend, port)); err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string]*lab.Place{
			"pod": &client.Place, "backend": &server.Place, "node": &n.Place, "host": &host.Place,
		} {
			t.Run(fmt.Sprintf("%s from %s", vip, name), func(t *testing.T) { ask(t, p, vip) })
		}
	}
	if err := n.Service(netip.MustParseAddrPort("10.96.0.3:80"),
		netip.AddrPortFrom(server.IP6(), port)); err == nil {
		t.Error("a service of two families was made")
	}
}

func TestRedirectIntoAndOutOfAPod(t *testing.T) {
	_, client, server, port := twoPods(t)
	if err := server.Redirect(80, port, false); err != nil {
		t.Fatal(err)
	}
	for _, ip := range server.IPs() {
		ask(t, &client.Place, netip.AddrPortFrom(ip, 80))
	}
	sidecar := echo(t, &client.Place, "[::]:0")
	if err := client.Redirect(81, sidecar, true); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"1.2.3.4", "2001:db8:1::4"} {
		ask(t, &client.Place, netip.AddrPortFrom(netip.MustParseAddr(to), 81))
	}
}

func TestMarkedConnectionsBypassTheRedirect(t *testing.T) {
	_, client, server, port := twoPods(t)
	const closed = 1 // a port without a listener
	if err := client.Redirect(port, closed, true); err != nil {
		t.Fatal(err)
	}
	mark := lab.WithControl(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, lab.BypassMark)
	})
	for _, ip := range server.IPs() {
		addr := netip.AddrPortFrom(ip, port)
		if _, err := client.Dial("tcp", addr.String()); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("Dial(%s) = %v, want connection refused by the client's own pod", addr, err)
		}
		ask(t, &client.Place, addr, mark)
	}
}

func TestExternalHostIsReachableInBothDirections(t *testing.T) {
	n, client, server, port := twoPods(t)
	var hosts []*lab.Host
	for _, name := range []string{"one", "two"} {
		h, err := n.External(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	for _, ip := range append(server.IPs(), n.IPs()...) {
		p := port
		if ip == n.IPs()[0] || ip == n.IPs()[1] {
			p = echo(t, &n.Place, netip.AddrPortFrom(ip, 0).String())
		}
		for _, h := range hosts {
			ask(t, &h.Place, netip.AddrPortFrom(ip, p))
		}
	}
	for _, h := range hosts {
		port := echo(t, &h.Place, "[::]:0")
		for _, ip := range h.IPs() {
			ask(t, &client.Place, netip.AddrPortFrom(ip, port))
		}
	}
}

func TestCongestionControlIsTheUsualOne(t *testing.T) {
	n, conflist := newNode(t)
	var pods []*lab.Pod
	for _, name := range []string{"a", "b"} {
		p, err := n.NewPod(t.Context(), lab.PodSpec{Name: name, Conflist: conflist})
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, p)
	}
	l, err := pods[0].Listen("tcp4", netip.AddrPortFrom(pods[0].IP4(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := pods[1].Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for name, c := range map[string]net.Conn{"client": client, "server": server} {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			got, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
			if got, _, _ = strings.Cut(got, "\x00"); err != nil || got != "cubic" {
				t.Errorf("the %s is controlled by %q, %v", name, got, err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}
