// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
	"github.com/sockmap-cni/sockmap-cni/test/lab/podcgroup"
)

// sockmapctl runs the program in the node's network namespace.
func (w *world) sockmapctl(args ...string) []byte {
	w.Helper()
	args = append(args, "--bpffs-path", w.node.BPFFS())
	cmd := w.node.Command(w.Context(), filepath.Join(tools.plugins, "sockmapctl"), args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := w.node.Start(cmd); err != nil {
		w.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		w.Fatalf("sockmapctl %q: %v: %s", args, err, complaint.Bytes())
	}
	return out.Bytes()
}

// adopt is the output of sockmapctl adopt for this node's pods, by their names. It knows them from CRI-O's
// socket only: libcni's cache directory is empty.
func (w *world) adopt(args ...string) map[string]string {
	w.Helper()
	args = append([]string{
		"adopt", "--all", "-o", "json", "--cri", w.socket(), "--cni-conf-dir", w.confDir(),
		"--cni-cache-dir", w.TempDir(),
	}, args...)
	var pods struct {
		Items []struct{ Pod, State, Reason, From string }
	}
	if err := json.Unmarshal(w.sockmapctl(args...), &pods); err != nil {
		w.Fatal(err)
	}
	said := map[string]string{}
	for _, p := range pods.Items {
		if p.From != "CRI" {
			w.Errorf("pod %s is known from %s", p.Pod, p.From)
		}
		said[p.Pod] = strings.TrimSpace(p.State + " " + p.Reason)
	}
	return said
}

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
	o.toIngress = netip.AddrPortFrom(w.node.IPs()[0], servePort).String()
	for _, p := range []*pod{o.server, o.out, o.ingress} {
		p.serve(t)
	}
	o.clients, o.ingressClients = o.client.idle(t), o.ingress.start(t, "idle", "serve", "-listen", "127.0.0.1:1")
	o.ingressClients.output(t)
	if calls := w.calls(); len(calls) > 0 {
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
	o.wantSaid("before", o.adopt("--dry-run"), before)
	o.wantSaid("adopted", o.adopt(), adopted)
	o.wantSaid("after", o.adopt("--dry-run"), adopted)
	o.wantRecords(o.client, o.server, o.ingress)

	o.wantRedirected(o.clients, at(o.server.ip4))
	o.wantRedirected(o.clients, at(o.server.ip6))
	o.wantPlain(o.clients, at(o.out.ip4))
	o.wantRedirected(o.clients, o.toIngress)
	o.wantRedirected(o.ingressClients, at(o.server.ip4))

	later := o.newPod(t, podSpec{name: "later"})
	if !o.called("ADD", later.id) {
		t.Errorf("the plugin was not called for a pod that came later: %q", o.calls())
	}
	later.serve(t)
	o.wantRedirected(o.clients, at(later.ip6))
	o.found("adopted", "pods that run when sockmap is chained are adopted by what CRI-O says on its CRI "+
		"socket, with and without a pause container; new connections redirect %s, to pods that came later, too",
		o.share())
	o.found("annotations", "a pod annotated sockmap-cni/accelerate \"false\" opts out; a pod with hostNetwork "+
		"is left out, annotated \"true\" it is adopted")
}

// wantRecords expects the pods' own cgroups to be the accelerated ones.
func (o *older) wantRecords(pods ...*pod) {
	o.Helper()
	_, unified, err := lab.Hierarchies()
	if err != nil {
		o.Fatal(err)
	}
	records := o.records()
	for _, p := range pods {
		r, ok := records[p.id]
		if !ok || !r.Accelerated() || r.CgroupPath != path.Join(unified, p.cgroup()) {
			o.Errorf("%s: want %s accelerated: %+v", p.spec.name, p.cgroup(), r)
		}
		if r.PodNamespace != "default" || r.PodName != p.spec.name {
			o.Errorf("recorded as %s/%s, want default/%s", r.PodNamespace, r.PodName, p.spec.name)
		}
		foundSource(r.CgroupSource)
	}
}

// CRI-O calls GC when it starts, with its list of pods, which contains the adopted ones.
func TestARestartOfCRIOChangesNothing(t *testing.T) {
	o := newOlder(t)
	o.wantSaid("adopted", o.adopt(), adopted)
	records := o.records()
	for i, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		o.stop(t, signal)
		o.daemon.start(t)
		o.eventually("CRI-O has asked for GC", func() bool { return count(o.calls(), "GC") == i+1 })
		if diff := cmp.Diff(records, o.records()); diff != "" {
			t.Errorf("after %s:\n%s", signal, diff)
		}
		o.wantSaid("after "+signal.String(), o.adopt(), adopted)
		o.wantRedirected(o.clients, at(o.server.ip4))
		o.wantRedirected(o.clients, o.toIngress)
		o.wantPlain(o.clients, at(o.out.ip4))
	}
	o.found("restart", "CRI-O restarted and killed: its GC leaves adopted pods alone, new connections "+
		"redirect %s", o.share())
}

func count(all []string, one string) int {
	return len(slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s != one }))
}

// CRI-O removes a pod by the list at the pod's ADD, which did not have sockmap. The attachment of an adopted
// pod is removed by the next ADD of another pod, or by gc; an attachment made at ADD is removed by DEL.
func TestThePodsAreRemoved(t *testing.T) {
	o := newOlder(t)
	o.wantSaid("adopted", o.adopt(), adopted)
	later := o.newPod(t, podSpec{name: "later"})
	if err := later.stop(); err != nil {
		t.Fatal(err)
	}
	if _, left := o.records()[later.id]; left || !o.called("DEL", later.id) {
		t.Errorf("after DEL there is an attachment: %v; called: %q", left, o.calls())
	}
	older := []*pod{o.client, o.server, o.out}
	for _, p := range older {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		r, ok := o.records()[p.id]
		if !ok || r.Dead == "" || o.called("DEL", p.id) {
			t.Errorf("%s: want no call, and a record that is known to be dead: %+v; called: %q",
				p.spec.name, r, o.calls())
		}
	}
	o.newPod(t, podSpec{name: "next"})
	for _, p := range older {
		if r, left := o.records()[p.id]; left {
			t.Errorf("after the next ADD there is %+v", r)
		}
	}

	id := o.ingress.id
	if err := errors.Join(o.ingress.remove(), podcgroup.Remove(o.ingress.cgroup())); err != nil {
		t.Fatal(err)
	}
	o.sockmapctl("gc")
	if r, left := o.records()[id]; left {
		t.Errorf("after gc there is %+v", r)
	}
	o.found("removed", "their DEL comes from the list that was cached at their ADD, without sockmap: what "+
		"was made for them is removed by the next ADD or by gc; pods that came later are removed by their DEL")
}
