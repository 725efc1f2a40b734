// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// pod is a registered namespace whose sockets are in one group.
type pod struct {
	*netnstest.NetNS
	group *group
}

// newPods registers n namespaces with the policies; the group has a link that takes registered namespaces
// only.
func newPods(t *testing.T, d *Datapath, policies ...Policy) []pod {
	t.Helper()
	g := newGroup(t)
	if _, err := d.Attach(g.dir, LinkKey{CgroupID: g.id}); err != nil {
		t.Fatal(err)
	}
	pods := make([]pod, len(policies))
	for i, p := range policies {
		pods[i] = pod{netnstest.New(t), g}
		if err := d.SetEndpoint(pods[i].Cookie, p); err != nil {
			t.Fatal(err)
		}
	}
	return pods
}

// connect makes both ends inside the pod, over its loopback.
func (p pod) connect(t *testing.T, port int) (client, server *net.TCPConn) {
	t.Helper()
	p.group.in(t, func() {
		p.Do(func() {
			l := listen(t, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
			client = dial(t, "tcp4", l.Addr().String())
			server = accept(t, l)
			l.Close()
		})
	})
	return client, server
}

func redirects(t *testing.T, d *Datapath, p pod, port int) bool {
	t.Helper()
	client, server := p.connect(t, port)
	defer client.Close()
	defer server.Close()
	send(t, client, server, 10<<10, 1)
	send(t, server, client, 10<<10, 2)
	c, ok := flowOf(t, d, client)
	return ok && c.RedirectedBytes == 10<<10
}

func TestOnlyRegisteredNamespacesTakePart(t *testing.T) {
	d := load(t, defaults)
	pods := newPods(t, d, Policy{Accelerate: true}, Policy{Accelerate: false})
	stranger := pod{netnstest.New(t), pods[0].group}
	if !redirects(t, d, pods[0], 8080) {
		t.Error("the registered namespace is not accelerated")
	}
	if redirects(t, d, pods[1], 8080) {
		t.Error("the namespace that opted out is accelerated")
	}
	if redirects(t, d, stranger, 8080) {
		t.Error("a namespace that nobody registered is accelerated")
	}
	pods[0].group.attach(t, d) // manual: every namespace, and both links fire for the registered one
	if !redirects(t, d, stranger, 8080) || !redirects(t, d, pods[0], 8080) {
		t.Error("with a link of every namespace something is not accelerated")
	}
	if redirects(t, d, pods[1], 8080) {
		t.Error("the namespace that opted out is accelerated by the link of every namespace")
	}
}

func TestPortsDecideAboutRedirection(t *testing.T) {
	d := load(t, defaults)
	p := newPods(t, d, Policy{
		Accelerate: true,
		Include:    []PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8999}},
		Exclude:    []PortRange{{First: 8500, Last: 8600}},
	})[0]
	for port, want := range map[int]bool{80: true, 81: false, 7999: false, 8000: true, 8499: true, 8500: false,
		8600: false, 8999: true, 9000: false} {
		if got := redirects(t, d, p, port); got != want {
			t.Errorf("port %d redirects: %v, want %v", port, got, want)
		}
	}
	if n := flowsCounted(t, d, RoleActive, ResultDenied); n != 5 {
		t.Errorf("%d active ends counted as denied, want 5", n)
	}
}

func TestChangedPolicyReachesLiveFlows(t *testing.T) {
	d := load(t, defaults)
	p := newPods(t, d, Policy{Accelerate: true})[0]
	client, server := p.connect(t, 8080)
	send(t, client, server, 1000, 1)
	set := func(policy Policy) {
		t.Helper()
		if err := d.SetEndpoint(p.Cookie, policy); err != nil {
			t.Fatal(err)
		}
	}
	set(Policy{Accelerate: true, Exclude: []PortRange{{First: 8080, Last: 8080}}})
	send(t, client, server, 1000, 2)
	if f, _ := flowOf(t, d, client); f.Mode != ModeTCP || f.Reason != Reason(bpf.SockmapReasonREASON_POLICY) {
		t.Errorf("want TCP because of policy: %+v", f)
	}
	set(Policy{Accelerate: true})
	send(t, client, server, 1000, 3)
	if f, _ := flowOf(t, d, client); f.Mode != ModeRedirect {
		t.Errorf("want redirect again: %+v", f)
	}
}

func TestTooManyPortRangesAreRefused(t *testing.T) {
	d := load(t, defaults)
	if err := d.SetEndpoint(1, Policy{Include: make([]PortRange, MaxPortRanges+1)}); err == nil {
		t.Error("accepted")
	}
}

func TestTotalsOfADeletedEndpointAreKept(t *testing.T) {
	d := load(t, defaults)
	p := newPods(t, d, Policy{Accelerate: true})[0]
	client, server := p.connect(t, 8080)
	send(t, client, server, 1000, 1)
	client.Close()
	server.Close()
	eventually(t, "both ends are closed", func() bool { return len(d.flowsOf(t)) == 0 })
	before, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	if before[p.Cookie].RedirectedBytes != 1000 {
		t.Errorf("totals of the endpoint: %+v", before[p.Cookie])
	}
	if err := d.DeleteEndpoint(p.Cookie); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteEndpoint(p.Cookie); err != nil {
		t.Errorf("the second time: %v", err)
	}
	after, err := d.Totals()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := after[p.Cookie]; ok || after[unregistered].RedirectedBytes != 1000 {
		t.Errorf("totals after: %+v", after)
	}
}
