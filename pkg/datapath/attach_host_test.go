// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// attachHost makes the group a host pod with this policy. The host's network namespace is that of the test.
func (g *group) attachHost(t *testing.T, d *Datapath, p Policy) uint64 {
	t.Helper()
	key := HostKey(g.id)
	record := Attachment{Network: "(host)", ContainerID: "one", IfName: "(host)", NetNSCookie: key,
		HostNetNSCookie: netnstest.Cookie(t), CgroupID: g.id}
	if err := d.PutAttachment(NewAttachmentKey("(host)", g.dir.Name(), "(host)"), record); err != nil {
		t.Fatal(err)
	}
	if made, err := d.AttachHost(g.dir, LinkKey{CgroupID: g.id}, netnstest.Cookie(t)); err != nil || !made {
		t.Fatalf("attach: %v, %v", made, err)
	}
	if err := d.SetEndpoint(key, p); err != nil {
		t.Fatal(err)
	}
	return key
}

// pairTo connects a client of this group with a server of another.
func (g *group) pairTo(t *testing.T, other *group) (client, server *net.TCPConn) {
	t.Helper()
	var l net.Listener
	other.in(t, func() { l = listen(t, "tcp4", "127.0.0.1:0") })
	defer l.Close()
	g.in(t, func() { client = dial(t, "tcp4", l.Addr().String()) })
	return client, accept(t, l)
}

// Two pods in the host's network namespace are two endpoints, and its other processes are none.
func TestHostPodsAreIdentifiedByTheirCgroups(t *testing.T) {
	d, ingress, proxy, plain := load(t, defaults), newGroup(t), newGroup(t), newGroup(t)
	first := ingress.attachHost(t, d, Policy{Accelerate: true, Peers: PeersNode})
	second := proxy.attachHost(t, d, Policy{Accelerate: true, Peers: PeersNode,
		Exclude: []PortRange{{First: 1, Last: 1}}})
	if !IsHostKey(first) || first == second || IsHostKey(netnstest.Cookie(t)) {
		t.Fatalf("keys %#x and %#x", first, second)
	}
	client, server := ingress.pairTo(t, proxy)
	wantRedirect(t, client, server, d, true)
	wantRedirect(t, server, client, d, true)
	if f, ok := flowOf(t, d, client); !ok || f.NetNSCookie != first || f.PeerNetNSCookie != second {
		t.Errorf("flow %+v, %v, want of %#x to %#x", f, ok, first, second)
	}
	own, peer := ingress.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, own, peer, d, true)
	shares, err := d.SocketShares()
	if err != nil || shares[first] != 3 || shares[second] != 1 {
		t.Errorf("sockets of each: %v, %v, want 3 and 1", shares, err)
	}
	for _, pair := range [][2]*group{{plain, ingress}, {ingress, plain}} {
		client, server := pair[0].pairTo(t, pair[1])
		send(t, client, server, 1000, 1)
		send(t, server, client, 1000, 2)
		if f, ok := flowOf(t, d, client); ok && f.RedirectedBytes > 0 {
			t.Errorf("who takes no part is redirected: %+v", f)
		}
	}

	// Policies are looked up by these keys, too.
	if err := d.SetEndpoint(second, Policy{Accelerate: true, Peers: PeersPod}); err != nil {
		t.Fatal(err)
	}
	wantRedirect(t, client, server, d, false)
	wantRedirect(t, own, peer, d, true)

	// An upgrade gives each its copy of the new program.
	if n := mustUpgrade(t, d, "new"); n != 2 {
		t.Errorf("%d cgroups have been upgraded, want 2", n)
	}
	again, other := ingress.pair(t, "tcp4", "127.0.0.1:0")
	wantRedirect(t, again, other, d, true)
	if f, ok := flowOf(t, d, again); !ok || f.NetNSCookie != first {
		t.Errorf("after an upgrade: flow %+v, %v", f, ok)
	}
}
