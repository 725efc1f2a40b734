// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net"
	"testing"
	"unsafe"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

var without8080 = Policy{Accelerate: true, Exclude: []PortRange{{First: 8080, Last: 8080}}}

// wantWay sends one message in each direction, and expects both to be redirected, or both on TCP by policy.
func wantWay(t *testing.T, d *Datapath, a, b *net.TCPConn, what string, redirected bool) {
	t.Helper()
	for _, way := range []struct{ from, to *net.TCPConn }{{a, b}, {b, a}} {
		before, _ := flowOf(t, d, way.from)
		send(t, way.from, way.to, 1000, 7)
		f, ok := flowOf(t, d, way.from)
		more := f.RedirectedBytes - before.RedirectedBytes
		switch {
		case !ok:
			t.Errorf("%s: the socket is not in the sockhash", what)
		case redirected && more != 1000:
			t.Errorf("%s: %d of 1000 bytes were redirected, want all: %+v", what, more, f)
		case !redirected && (more != 0 || f.Reason != ReasonPolicy):
			t.Errorf("%s: %d of 1000 bytes were redirected, want none because of policy: %+v", what, more, f)
		}
	}
}

func set(t *testing.T, d *Datapath, cookie uint64, p Policy) {
	t.Helper()
	if err := d.SetEndpoint(cookie, p); err != nil {
		t.Fatal(err)
	}
}

func forget(t *testing.T, d *Datapath, cookie uint64) {
	t.Helper()
	if err := d.DeleteEndpoint(cookie); err != nil {
		t.Fatal(err)
	}
}

func TestPolicyOfANewAddReachesLiveFlows(t *testing.T) {
	d := load(t, defaults)
	p := newPods(t, d, Policy{Accelerate: true})[0]
	client, server := p.connect(t, 8080)
	wantWay(t, d, client, server, "as it was added", true)
	forget(t, d, p.Cookie)
	set(t, d, p.Cookie, without8080)
	wantWay(t, d, client, server, "after DEL and ADD without its port", false)
	forget(t, d, p.Cookie)
	set(t, d, p.Cookie, Policy{Accelerate: true})
	wantWay(t, d, client, server, "after DEL and ADD with its port", true)
}

func TestPolicyReachesFlowsOfANamespaceThatWasNotRegistered(t *testing.T) {
	d := load(t, defaults)
	g := newGroup(t)
	g.attach(t, d)
	for _, tt := range []struct {
		what   string
		policy Policy
	}{
		{"opted out", Policy{Accelerate: false}},
		{"without its port", without8080},
		{"with its own sandbox only", Policy{Accelerate: true, Peers: PeersPod}},
	} {
		stranger := pod{netnstest.New(t), g}
		client, server := crossing(t, stranger, pod{netnstest.New(t), g})
		wantWay(t, d, client, server, tt.what+", before", true)
		set(t, d, stranger.Cookie, tt.policy)
		wantWay(t, d, client, server, tt.what, false)
		set(t, d, stranger.Cookie, Policy{Accelerate: true})
		wantWay(t, d, client, server, tt.what+", taken back", true)
	}
}

// The deleted policy may have forbidden this flow.
func TestADeletedEndpointPermitsNothing(t *testing.T) {
	d := load(t, defaults)
	g := newGroup(t)
	g.attach(t, d) // every namespace: also those that are not registered any more
	for _, tt := range []struct {
		what   string
		client bool // the client is the registered one
	}{{"client's", true}, {"server's", false}} {
		a, b := pod{netnstest.New(t), g}, pod{netnstest.New(t), g}
		gone := b.Cookie
		if tt.client {
			gone = a.Cookie
		}
		set(t, d, gone, Policy{Accelerate: true})
		client, server := crossing(t, a, b)
		wantWay(t, d, client, server, tt.what+" policy permits", true)
		set(t, d, gone, without8080)
		wantWay(t, d, client, server, tt.what+" policy forbids", false)
		forget(t, d, gone)
		wantWay(t, d, client, server, tt.what+" policy was deleted", false)
		forget(t, d, gone)
		wantWay(t, d, client, server, tt.what+" policy was deleted again", false)
		set(t, d, gone, Policy{Accelerate: true})
		wantWay(t, d, client, server, tt.what+" policy permits again", true)
	}
}

// The active end checks no policy at the handshake. It knows the other end only from their rendezvous.
func TestAnEndpointDeletedBeforeTheFirstMessagePermitsNothing(t *testing.T) {
	d := load(t, defaults)
	p := newPods(t, d, Policy{Accelerate: true})[0]
	client, server := p.connect(t, 8080)
	forget(t, d, p.Cookie)
	wantWay(t, d, client, server, "deleted before the first message", false)
}

// A call that is killed after it wrote the policy and before it raised the epoch leaves flows on the old
// policy. The next call raises the epoch.
func TestCallKilledBeforeTheEpochIsRepairedByNextChange(t *testing.T) {
	for _, tt := range []struct {
		what string
		next func(d *Datapath, own, other uint64) error
	}{
		{"the same call again", func(d *Datapath, own, _ uint64) error { return d.SetEndpoint(own, without8080) }},
		{"an ADD of another", func(d *Datapath, _, other uint64) error {
			return d.SetEndpoint(other, Policy{Accelerate: true})
		}},
		{"a DEL of another", func(d *Datapath, _, other uint64) error { return d.DeleteEndpoint(other) }},
		{"a DEL of one that is not there", func(d *Datapath, _, _ uint64) error { return d.DeleteEndpoint(1) }},
	} {
		d := load(t, defaults)
		pods := newPods(t, d, Policy{Accelerate: true}, Policy{Accelerate: true})
		client, server := pods[0].connect(t, 8080)
		wantWay(t, d, client, server, tt.what+", before", true)
		putPolicy(t, d, pods[0].Cookie, without8080)
		if err := tt.next(d, pods[0].Cookie, pods[1].Cookie); err != nil {
			t.Fatal(err)
		}
		wantWay(t, d, client, server, tt.what, false)
	}
}

// putPolicy writes a policy and does not raise the epoch.
func putPolicy(t *testing.T, d *Datapath, cookie uint64, p Policy) {
	t.Helper()
	ep, err := p.encode(cookie)
	m, mapErr := d.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(ep))
	if err := errors.Join(err, mapErr); err != nil {
		t.Fatal(err)
	}
	if err := m.Put(cookie, &ep); err != nil {
		t.Fatal(err)
	}
}
