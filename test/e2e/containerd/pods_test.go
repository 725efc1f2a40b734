// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"net/netip"
	"path"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
	"github.com/sockmap-cni/sockmap-cni/test/lab/podcgroup"
)

// pair is a client and a server, each in its own pod.
func (w *world) pair() (client, server *container) {
	w.Helper()
	c := w.newPod(w.T, podSpec{name: "client", class: burstable})
	s := w.newPod(w.T, podSpec{name: "server", class: guaranteed})
	server = s.serve(w.T)
	return c.idle(w.T), server
}

// idle is a container to start clients in.
func (p *pod) idle(t *testing.T) *container {
	t.Helper()
	return p.start(t, "serve", "-listen", "127.0.0.1:1")
}

func TestPodsRedirectToEachOther(t *testing.T) {
	w := newWorld(t, map[string]any{})
	server := w.newPod(t, podSpec{name: "server", class: guaranteed})
	serves := server.serve(t)
	w.wantInPodCgroup(serves)
	for _, class := range []qos{guaranteed, burstable, bestEffort} {
		p := w.newPod(t, podSpec{name: "client" + string(class), class: class})
		w.wantEndpoint(p)
		c := p.idle(t)
		w.wantInPodCgroup(c)
		w.WantRedirected(c, crinode.At(server.ip4))
		w.WantRedirected(c, crinode.At(server.ip6))
	}
	if !w.Called("STATUS", "") {
		t.Errorf("containerd did not ask for the STATUS, only %q", w.Calls())
	}
	w.Found("between pods", "%s redirected between pods of each QoS class over IPv4 and IPv6", w.Share())
}

// wantEndpoint expects the pod's own cgroup, from the capability that containerd passes, to be the
// accelerated one.
func (w *world) wantEndpoint(p *pod) {
	w.Helper()
	w.WantAccelerated(p.id, p.spec.name, p.spec.cgroup())
}

// wantInPodCgroup expects that runc has put the container below its pod's cgroup.
func (w *world) wantInPodCgroup(c *container) {
	w.Helper()
	got, err := podcgroup.OfProcess(c.process(w.T))
	if err != nil {
		w.Fatal(err)
	}
	if want := path.Join(c.pod.spec.cgroup(), c.id); got != want {
		w.Errorf("the container is in %s, want %s", got, want)
	}
}

func TestInsideAPodOverLoopback(t *testing.T) {
	w := newWorld(t, map[string]any{})
	for _, name := range []string{"one", "other"} { // with the same addresses and ports
		p := w.newPod(t, podSpec{name: name, class: burstable})
		p.serve(t)
		sidecar := p.idle(t)
		w.WantRedirected(sidecar, crinode.At(netip.MustParseAddr("127.0.0.1")))
		w.WantRedirected(sidecar, crinode.At(netip.IPv6Loopback()))
	}
	w.Found("inside a pod over loopback", "%s between containers of a pod over loopback", w.Share())
}

func TestThroughAServiceAddress(t *testing.T) {
	w := newWorld(t, map[string]any{})
	client, server := w.pair()
	for vip, backend := range map[string]netip.Addr{"10.96.0.1": server.pod.ip4, "fd96::1": server.pod.ip6} {
		service := netip.AddrPortFrom(netip.MustParseAddr(vip), 80)
		if err := w.Node.Service(service, netip.AddrPortFrom(backend, crinode.ServePort)); err != nil {
			t.Fatal(err)
		}
		w.WantRedirected(client, service.String())
		w.WantRedirected(server, service.String()) // hairpin
	}
	w.Found("through a service address", "%s through a service address (DNAT), from its own backend, too",
		w.Share())
}

// A host port as portmap makes it: the same by the rules of another program.
func TestThroughAHostPort(t *testing.T) {
	w := newWorld(t, map[string]any{})
	server := w.newPod(t, podSpec{name: "server", class: burstable, hostPort: 9090})
	server.serve(t)
	client := w.newPod(t, podSpec{name: "client", class: burstable}).idle(t)
	w.WantRedirected(client, netip.AddrPortFrom(w.Node.IPs()[0], 9090).String())
}

func TestAnnotatedPodStaysOnTCP(t *testing.T) {
	w := newWorld(t, map[string]any{})
	client, server := w.pair()
	out := w.newPod(t, podSpec{
		name: "out", class: burstable, annotations: map[string]string{"sockmap-cni/accelerate": "false"},
	})
	serves := out.serve(t)
	if r := w.record(out); r.Accelerated() || r.Declined == "" {
		t.Errorf("want it declined: %+v", r)
	}
	w.WantPlain(client, crinode.At(out.ip4))
	w.WantPlain(serves, crinode.At(server.pod.ip4))
	w.WantPlain(serves, crinode.At(netip.MustParseAddr("127.0.0.1")))
	w.WantRedirected(client, crinode.At(server.pod.ip4)) // the others are not concerned
	w.Found("opt-out",
		"0 %% to and from a pod annotated sockmap-cni/accelerate \"false\", %s between its neighbours", w.Share())
}
