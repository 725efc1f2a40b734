// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// sidecar is a mesh with a proxy in each pod, in its own container cgroup, as its own user.
type sidecar struct {
	user, out, in int
	source        netip.Addr // source of the proxy's connections to its application
	rules         string     // input of iptables-restore
	all           string     // ports of all hops to the application at 8080, as text
}

// The rules of istio-init, without ports of probes and metrics.
var istio = sidecar{
	user: 1337, out: 15001, in: 15006, source: netip.MustParseAddr("127.0.0.6"), all: "15001 15006 8080",
	rules: `*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
`,
}

// The rules of linkerd-init.
var linkerd = sidecar{
	user: 2102, out: 4140, in: 4143, all: "4140 4143 8080",
	rules: `*nat
:PROXY_INIT_OUTPUT - [0:0]
:PROXY_INIT_REDIRECT - [0:0]
-A PREROUTING -j PROXY_INIT_REDIRECT
-A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190,4191,4567,4568 -j RETURN
-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-ports 4143
-A OUTPUT -j PROXY_INIT_OUTPUT
-A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN
-A PROXY_INIT_OUTPUT -o lo -j RETURN
-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-ports 4140
COMMIT
`,
}

// inject puts a proxy and its rules into a pod.
func (s sidecar) inject(t *testing.T, p *lab.Pod) {
	t.Helper()
	setRules(t, p, "iptables-restore", s.rules)
	container, err := p.Container("proxy")
	if err != nil {
		t.Fatal(err)
	}
	startProxy(t, container, s.user).serve(proxyOrder{
		Outbound: s.out, Inbound: s.in, Rewritten: true, Source: s.source,
	})
}

func TestEveryHopBetweenSidecarsIsRedirected(t *testing.T) {
	for name, mesh := range map[string]sidecar{"Istio": istio, "Linkerd": linkerd} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			client, server := w.pod(clientSpec), w.pod(serverSpec)
			mesh.inject(t, client)
			mesh.inject(t, server)
			c := join(t, w.datapath(), client, server, server.IP4(), applicationPort)
			c.want(mesh.all)
			for range 8 {
				duplex(t, c.client, c.server, pairBurst)
			}
			c.client.Close()
			c.server.Close()
			wantNothingLeft(t, c.d)
		})
	}
}

// The policies of the pods also apply to their sidecars.
func TestPoliciesOfPodsHoldForTheirSidecars(t *testing.T) {
	for _, tt := range []struct {
		name           string
		keys           map[string]any
		client, server lab.PodSpec
		want           string
	}{
		{"peers namespace, of two", map[string]any{"peers": "namespace"}, clientSpec, serverSpec, "15001 8080"},
		{"the client opted out", nil, optedOut(clientSpec), serverSpec, "8080"},
		{"the server opted out", nil, clientSpec, optedOut(serverSpec), "15001"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.keys)
			client, server := w.pod(tt.client), w.pod(tt.server)
			istio.inject(t, client)
			istio.inject(t, server)
			join(t, w.datapath(), client, server, server.IP4(), applicationPort).want(tt.want)
		})
	}
}
