// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"net/netip"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// Ports of ztunnel in a pod, and of the application behind it.
const (
	ztunnelOut, ztunnelIn, ztunnelTunnel = 15001, 15006, 15008
	applicationPort                      = 8080
)

// The hops of a connection, as chain.redirected names them.
const (
	allHops      = "15001 15008 8080" // sorted as text
	toZtunnel    = "15001"            // application to ztunnel, inside the client's pod
	tunnel       = "15008"            // ztunnel to ztunnel, from pod to pod
	fromZtunnel  = "8080"             // ztunnel to application, inside the server's pod
	insideOfPods = toZtunnel + " " + fromZtunnel
)

// The rules of istio-cni in a pod of an ambient mesh, without DNS and probes. Marks: 0x539 is on ztunnel's
// sockets, and 0x111 on connections that it has made, whose replies stay in the pod although their
// destination is elsewhere.
const ambientMangle = `*mangle
:ISTIO_OUTPUT - [0:0]
:ISTIO_PRERT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
COMMIT
`

func ambientNAT(loopback string) string {
	return `*nat
:ISTIO_OUTPUT - [0:0]
:ISTIO_PRERT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A ISTIO_OUTPUT ! -d ` + loopback + ` -o lo -j ACCEPT
-A ISTIO_OUTPUT ! -d ` + loopback + ` -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
-A ISTIO_PRERT ! -d ` + loopback + ` -p tcp -m tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
COMMIT
`
}

// ambient is a node with two pods of an ambient mesh and ztunnel's pod.
type ambient struct {
	*world
	d                       *datapath.Datapath
	tls                     bool
	client, server, ztunnel *lab.Pod
	proxy                   *meshProxy
}

// enroll adds the pods to the mesh of a world with a ztunnel pod.
func enroll(t *testing.T, w *world, ztunnel, client, server *lab.Pod, tls bool) *ambient {
	t.Helper()
	m := &ambient{world: w, tls: tls, client: client, server: server, ztunnel: ztunnel}
	for _, p := range []*lab.Pod{client, server} {
		m.setAmbientRules(p)
	}
	m.d = w.datapath()
	m.startZtunnel()
	return m
}

func (m *ambient) setAmbientRules(p *lab.Pod) {
	m.Helper()
	for tool, rules := range map[string]string{
		"iptables-restore":  ambientMangle + ambientNAT("127.0.0.1/32"),
		"ip6tables-restore": ambientMangle + ambientNAT("::1/128"),
	} {
		setRules(m.T, p, tool, rules)
	}
	for family, everything := range map[string]string{"-4": "0.0.0.0/0", "-6": "::/0"} {
		output(m.T, p, nil, "ip", family, "rule", "add", "fwmark", "0x111/0xfff", "pref", "32764", "lookup", "100")
		output(m.T, p, nil, "ip", family, "route", "add", "local", everything, "dev", "lo", "table", "100")
	}
}

// startZtunnel starts a process in ztunnel's pod, which enters the pods of the mesh.
func (m *ambient) startZtunnel() {
	m.Helper()
	m.proxy = startProxy(m.T, &m.ztunnel.Place, 0)
	var tunnelled []netip.Addr
	for _, p := range []*lab.Pod{m.client, m.server} {
		tunnelled = append(tunnelled, p.IPs()...)
	}
	for _, p := range []*lab.Pod{m.client, m.server} {
		m.proxy.serve(proxyOrder{
			NetNS: p.NetNS(), Outbound: ztunnelOut, Inbound: ztunnelIn, Mark: 0x539,
			Tunnel: ztunnelTunnel, Tunnelled: tunnelled, TLS: m.tls,
		})
	}
}

// join connects from the client's application to the server's.
func (m *ambient) join() *chain {
	m.Helper()
	return join(m.T, m.d, m.client, m.server, m.server.IP4(), applicationPort)
}

// newAmbient makes a mesh whose pods are in two namespaces, with keys in the sockmap entry.
func newAmbient(t *testing.T, keys map[string]any) *ambient {
	t.Helper()
	w := newWorld(t, keys)
	return enroll(t, w, w.pod(ztunnelSpec), w.pod(clientSpec), w.pod(serverSpec), false)
}

var (
	ztunnelSpec = lab.PodSpec{Namespace: "istio-system", Name: "ztunnel"}
	clientSpec  = lab.PodSpec{Namespace: "web", Name: "front"}
	serverSpec  = lab.PodSpec{Namespace: "shop", Name: "db"}
)

// optedOut is a pod with the annotation that keeps it on TCP.
func optedOut(spec lab.PodSpec) lab.PodSpec {
	spec.Annotations = map[string]string{"sockmap-cni/accelerate": "false"}
	return spec
}

func TestEveryHopOfAnAmbientMeshIsRedirected(t *testing.T) {
	for name, tls := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			m := enroll(t, w, w.pod(ztunnelSpec), w.pod(clientSpec), w.pod(serverSpec), tls)
			for _, address := range []netip.Addr{m.server.IP4(), m.server.IP6()} {
				c := join(t, m.d, m.client, m.server, address, applicationPort)
				c.want(allHops)
				m.wantHopsOfApplications()
				for range 8 {
					duplex(t, c.client, c.server, pairBurst)
				}
				// The mesh works correctly: the server sees the client's address, not a proxy's.
				if from := hostOf(c.server.RemoteAddr()); from != m.client.IP4() && from != m.client.IP6() {
					t.Errorf("the server sees %s", from)
				}
				c.client.Close()
				c.server.Close()
				wantNothingLeft(t, m.d)
			}
		})
	}
}

func hostOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }

// wantHopsOfApplications expects that the sockets of one chain are in the network namespaces of the
// applications' pods, and counted there: ztunnel has made four of the six.
func (m *ambient) wantHopsOfApplications() {
	m.Helper()
	client, server := m.client.NetNSCookie(), m.server.NetNSCookie()
	found := hops(m.T, m.d)
	for port, want := range map[uint16][2]uint64{
		ztunnelOut: {client, client}, ztunnelTunnel: {client, server}, applicationPort: {server, server},
	} {
		h := found[port]
		if len(h) != 1 || h[0].client.NetNSCookie != want[0] || h[0].server.NetNSCookie != want[1] {
			m.Errorf("port %d: %+v, want a connection from network namespace %d to %d", port, h, want[0], want[1])
		}
	}
	shares, err := m.d.SocketShares()
	if err != nil {
		m.Fatal(err)
	}
	if shares[client] != 3 || shares[server] != 3 || shares[m.ztunnel.NetNSCookie()] != 0 {
		m.Errorf("shares %v, want 3 of each application's pod and none of ztunnel's", shares)
	}
}

// If a connection comes from outside of the mesh, or leaves the node, its hops inside of pods are redirected.
func TestHopsThatEndOutsideOfAnAmbientMesh(t *testing.T) {
	m := newAmbient(t, nil)
	stranger := m.pod(lab.PodSpec{Namespace: "batch", Name: "stranger"})
	join(t, m.d, stranger, m.server, m.server.IP4(), 80).want("15006 80")

	host, err := m.node.External(t.Context(), "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	in := joinPlaces(t, m.d, &host.Place, &m.server.Place, at(m.server.IP4(), 81), 81)
	in.want("81")
	out := joinPlaces(t, m.d, &m.client.Place, &host.Place, at(host.IPs()[0], 82), 82)
	out.want(toZtunnel)
}
