// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/lab/podcgroup"
)

func (w *world) wantSaid(when string, said, want map[string]string) {
	w.Helper()
	if !maps.Equal(said, want) {
		w.Errorf("%s: %v, want %v", when, said, want)
	}
}

var (
	optsOut   = map[string]string{"sockmap-cni/accelerate": "false"}
	takesPart = map[string]string{"sockmap-cni/accelerate": "true"}
)

// older are pods that have run since before sockmap was added to the list of their network.
type older struct {
	*world
	client, server, out, host, ingress *pod
	clients, ingressClients            *container
	toIngress                          string
}

func newOlder(t *testing.T) *older {
	t.Helper()
	w := newWorld(t)
	o := &older{
		world:   w,
		client:  w.newPod(t, podSpec{name: "client"}),
		server:  w.newPod(t, podSpec{name: "server", sharedPID: true}),
		out:     w.newPod(t, podSpec{name: "out", annotations: optsOut}),
		host:    w.newPod(t, podSpec{name: "host", hostNetwork: true}),
		ingress: w.newPod(t, podSpec{name: "ingress", hostNetwork: true, annotations: takesPart}),
	}
	o.toIngress = netip.AddrPortFrom(w.Node.IPs()[0], crinode.ServePort).String()
	for _, p := range []*pod{o.server, o.out, o.ingress} {
		p.serve(t)
	}
	o.clients, o.ingressClients = o.client.idle(t), o.ingress.start(t, "idle", "serve", "-listen", "127.0.0.1:1")
	o.ingressClients.output(t)
	if calls := w.Calls(); len(calls) > 0 {
		t.Fatalf("the plugin is not in the chain, and was called: %q", calls)
	}
	w.chain()
	return o
}

// The later life of the pods of newOlder.
var adopted = map[string]string{
	"client": "accelerated", "server": "accelerated", "out": "opted-out opted-out",
	"host": "left-out host-network", "ingress": "accelerated",
}

func TestPodsThatRunAreAdopted(t *testing.T) {
	o := newOlder(t)
	before := map[string]string{
		"client": "left-out older", "server": "left-out older", "out": "left-out older",
		"host": "left-out host-network", "ingress": "left-out older",
	}
	o.wantSaid("before", o.Adopt("--dry-run"), before)
	o.wantSaid("adopted", o.Adopt(), adopted)
	o.wantSaid("after", o.Adopt("--dry-run"), adopted)
	o.wantRecords(o.client, o.server, o.ingress)

	o.WantRedirected(o.clients, crinode.At(o.server.ip4))
	o.WantRedirected(o.clients, crinode.At(o.server.ip6))
	o.WantPlain(o.clients, crinode.At(o.out.ip4))
	o.WantRedirected(o.clients, o.toIngress)
	o.WantRedirected(o.ingressClients, crinode.At(o.server.ip4))

	later := o.newPod(t, podSpec{name: "later"})
	if !o.Called("ADD", later.id) {
		t.Errorf("the plugin was not called for a pod that came later: %q", o.Calls())
	}
	later.serve(t)
	o.WantRedirected(o.clients, crinode.At(later.ip6))
	o.Found("adopted", "pods that run when sockmap is chained are adopted by what CRI-O says on its CRI "+
		"socket, with and without a pause container; new connections redirect %s, to pods that came later, too",
		o.Share())
	o.Found("annotations", "a pod annotated sockmap-cni/accelerate \"false\" opts out; a pod with hostNetwork "+
		"is left out, annotated \"true\" it is adopted")
}

// wantRecords expects the pods' own cgroups to be the accelerated ones.
func (o *older) wantRecords(pods ...*pod) {
	o.Helper()
	for _, p := range pods {
		o.WantAccelerated(p.id, p.spec.name, p.cgroup())
	}
}

// CRI-O calls GC when it starts, with its list of pods, which contains the adopted ones.
func TestARestartOfCRIOChangesNothing(t *testing.T) {
	o := newOlder(t)
	o.wantSaid("adopted", o.Adopt(), adopted)
	records := o.Records()
	for i, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		o.Stop(t, signal)
		o.daemon.start(t)
		o.Eventually("CRI-O has asked for GC", func() bool { return count(o.Calls(), "GC") == i+1 })
		if diff := cmp.Diff(records, o.Records()); diff != "" {
			t.Errorf("after %s:\n%s", signal, diff)
		}
		o.wantSaid("after "+signal.String(), o.Adopt(), adopted)
		o.WantRedirected(o.clients, crinode.At(o.server.ip4))
		o.WantRedirected(o.clients, o.toIngress)
		o.WantPlain(o.clients, crinode.At(o.out.ip4))
	}
	o.Found("restart", "CRI-O restarted and killed: its GC leaves adopted pods alone, new connections "+
		"redirect %s", o.Share())
}

func count(all []string, one string) int {
	return len(slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s != one }))
}

// CRI-O removes a pod by the list at the pod's ADD, which did not have sockmap. The attachment of an adopted
// pod is removed by the next ADD of another pod, or by gc; an attachment made at ADD is removed by DEL.
func TestThePodsAreRemoved(t *testing.T) {
	o := newOlder(t)
	o.wantSaid("adopted", o.Adopt(), adopted)
	later := o.newPod(t, podSpec{name: "later"})
	if err := later.stop(); err != nil {
		t.Fatal(err)
	}
	if _, left := o.Records()[later.id]; left || !o.Called("DEL", later.id) {
		t.Errorf("after DEL there is an attachment: %v; called: %q", left, o.Calls())
	}
	older := []*pod{o.client, o.server, o.out}
	for _, p := range older {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		r, ok := o.Records()[p.id]
		if !ok || r.Dead == "" || o.Called("DEL", p.id) {
			t.Errorf("%s: want no call, and a record that is known to be dead: %+v; called: %q",
				p.spec.name, r, o.Calls())
		}
	}
	o.newPod(t, podSpec{name: "next"})
	for _, p := range older {
		if r, left := o.Records()[p.id]; left {
			t.Errorf("after the next ADD there is %+v", r)
		}
	}

	id := o.ingress.id
	if err := errors.Join(o.ingress.remove(), podcgroup.Remove(o.ingress.cgroup())); err != nil {
		t.Fatal(err)
	}
	o.Sockmapctl("gc")
	if r, left := o.Records()[id]; left {
		t.Errorf("after gc there is %+v", r)
	}
	o.Found("removed", "their DEL comes from the list that was cached at their ADD, without sockmap: what "+
		"was made for them is removed by the next ADD or by gc; pods that came later are removed by their DEL")
}
