// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/admit"
	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// live is a connection between two pods that remains open, with traffic in both directions on demand.
type live struct {
	*world
	d              *datapath.Datapath
	client, server net.Conn
}

func (w *world) live(client, server *lab.Pod, port uint16) *live {
	w.Helper()
	l := listen(w.T, &server.Place, at(server.IP4(), port))
	c, s := connect(w.T, &client.Place, at(server.IP4(), port), l)
	return &live{w, w.datapath(), c, s}
}

// redirects sends once in each direction, and reports whether both ends' bytes were redirected.
func (l *live) redirects() bool {
	l.Helper()
	before := l.bytes()
	duplex(l.T, l.client, l.server, 10_000)
	return l.bytes() == before+20_000
}

func (l *live) bytes() (sum uint64) {
	for _, f := range ends(l.T, l.d, l.client, l.server) {
		sum += f.RedirectedBytes
	}
	return sum
}

// follows waits until the live connection is redirected, or is not, and expects that within a second.
func (l *live) follows(want bool, since time.Time) {
	l.Helper()
	for l.redirects() != want {
		if time.Since(since) > 5*time.Second {
			l.Fatalf("a live connection is redirected: %v, after %v", !want, time.Since(since))
		}
	}
	if took := time.Since(since); took > time.Second {
		l.Errorf("a live connection follows after %v", took)
	}
}

// endpointNode is the node as sockmapctl has it.
func (w *world) endpointNode() *endpoint.Node {
	conf, err := cniconf.ParseLenient([]byte(`{}`))
	if err != nil {
		w.Fatal(err)
	}
	return &endpoint.Node{Dir: w.node.BPFFS(), Settings: admit.Settings(conf, nil)}
}

func (w *world) turn(off bool, parts ...datapath.Switch) time.Time {
	w.Helper()
	begin := time.Now()
	if _, err := w.endpointNode().Switch(w.Context(), off, parts); err != nil {
		w.Fatal(err)
	}
	return begin
}

func TestASwitchReachesLiveConnectionsAndPodsThatComeLater(t *testing.T) {
	const port = 5432
	for _, tt := range []struct {
		part  datapath.Switch
		later bool // a later pod is on TCP, too
		other bool // so is a connection of two pods that are not named
	}{
		{datapath.Switch{Kind: datapath.SwitchPod, Name: "shop/db-0"}, true, false},
		{datapath.Switch{Kind: datapath.SwitchNamespace, Name: "shop"}, true, false},
		{datapath.Switch{Kind: datapath.SwitchPort, Name: "5400-5500"}, true, true},
	} {
		t.Run(string(tt.part.Kind), func(t *testing.T) {
			w := newWorld(t, nil)
			db := w.pod(lab.PodSpec{Namespace: "shop", Name: "db-0"})
			web, other := w.pod(lab.PodSpec{Namespace: "web"}), w.pod(lab.PodSpec{Namespace: "web"})
			named, free := w.live(web, db, port), w.live(web, other, port)
			named.follows(true, time.Now())
			free.follows(true, time.Now())

			named.follows(false, w.turn(true, tt.part))
			if got := free.redirects(); got == tt.other {
				t.Errorf("another connection is redirected: %v", got)
			}
			w.wantSwitchedOff(db, tt.part.Kind != datapath.SwitchPort)
			named.follows(true, w.turn(false, tt.part))
			named.follows(false, w.turn(true, tt.part))
			if err := db.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
			again := w.pod(lab.PodSpec{Namespace: "shop", Name: "db-0"})
			if got := w.redirects(web, again, port); got == tt.later {
				t.Errorf("the pod that came later is redirected: %v", got)
			}
			w.turn(false, tt.part)
			w.wantSwitchedOff(again, false)
			if !w.redirects(web, again, port) {
				t.Error("once it is switched on again a new connection is not redirected")
			}
			free.follows(true, time.Now())
		})
	}
}

func (w *world) wantSwitchedOff(p *lab.Pod, want bool) {
	w.Helper()
	records, err := w.endpointNode().Attachments(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	i := slices.IndexFunc(records, func(r endpoint.Attachment) bool { return r.ContainerID == p.ContainerID() })
	if i < 0 || (records[i].WhyNot() == decline.SwitchedOff) != want {
		w.Errorf("records %+v; want pod %s switched off: %v", records, p, want)
	}
}

// A call that is killed between the switch and the endpoints is completed by the next Reap of any process.
func TestAnInterruptedSwitchIsFinished(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.pod(lab.PodSpec{Namespace: "shop"}), w.pod(lab.PodSpec{Namespace: "web"})
	l := w.live(a, b, 80)
	l.follows(true, time.Now())
	n := w.endpointNode()
	n.Step = func(name string) error {
		if name == "endpoint" {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	part := datapath.Switch{Kind: datapath.SwitchNamespace, Name: "shop"}
	if _, err := n.Switch(t.Context(), true, []datapath.Switch{part}); err == nil {
		t.Fatal("no error")
	}
	if !l.redirects() {
		t.Fatal("the test interrupts nothing")
	}
	begin := time.Now()
	if _, err := w.endpointNode().Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.follows(false, begin)
}

// setKeys rewrites the entry of the node's network.
func (o *older) setKeys(keys map[string]any) {
	o.Helper()
	if err := os.WriteFile(filepath.Join(o.confDir, "10-net.conflist"), o.list(keys), 0o600); err != nil {
		o.Fatal(err)
	}
}

// Changes of the entry reach live connections of running pods, and are reported.
func TestLiveConnectionsFollowTheEntry(t *testing.T) {
	o := newOlder(t, nil)
	a, b := o.pod(lab.PodSpec{Namespace: "blue"}), o.pod(lab.PodSpec{Namespace: "green"})
	l := o.live(a, b, 5432)
	l.follows(true, time.Now())
	for _, tt := range []struct {
		name      string
		keys      map[string]any
		redirects bool
		says      string
	}{
		{"ports", map[string]any{"ports": map[string]any{"exclude": []string{"5000-6000"}}}, false,
			"ports.exclude: none, now 5000-6000"},
		{"peers", map[string]any{"peers": "namespace"}, false, "peers: node, now namespace"},
		{"ports again", map[string]any{"ports": map[string]any{"include": []string{"5432"}}}, true,
			"ports.include: all, now 5432"},
		{"enabled", map[string]any{"enabled": false}, false, "enabled: true, now false by configuration"},
		{"enabled again", nil, true, "enabled: false, now true by configuration"},
		{"a setting of the node", map[string]any{"natRefreshSeconds": 17}, true, "natRefreshSeconds: 60, now 17"},
	} {
		o.setKeys(tt.keys)
		begin := time.Now()
		changes, err := o.Follow(t.Context(), every)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		l.follows(tt.redirects, begin)
		said, err := o.FollowSettings(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		for _, c := range changes {
			said = append(said, c.What...)
		}
		if !slices.Contains(said, tt.says) {
			t.Errorf("%s: %q, without %q", tt.name, said, tt.says)
		}
		if again, err := o.Follow(t.Context(), every); err != nil || len(again) != 0 {
			t.Errorf("%s: once more it changes %+v, %v", tt.name, again, err)
		}
	}
	// One DEL removes all.
	for _, p := range []*lab.Pod{a, b} {
		if err := o.node.DEL(t.Context(), o.conflist, p); err != nil {
			t.Error(err)
		}
	}
	if records, err := o.endpointNode().Attachments(t.Context()); err != nil || len(records) != 0 {
		t.Errorf("left: %+v, %v", records, err)
	}
}

// A wrong value has no effect: the settings in force stay, and the error names the file and the key.
func TestAWrongEntryChangesNothing(t *testing.T) {
	o := newOlder(t, map[string]any{"ports": map[string]any{"include": []string{"80"}}})
	a, b := o.pod(lab.PodSpec{}), o.pod(lab.PodSpec{})
	l := o.live(a, b, 80)
	l.follows(true, time.Now())
	o.setKeys(map[string]any{"ports": map[string]any{"include": []string{"eighty"}}, "peers": "pod"})
	changes, err := o.Follow(t.Context(), every)
	if err == nil || !strings.Contains(err.Error(), "10-net.conflist") ||
		!strings.Contains(err.Error(), "ports") {
		t.Errorf("the error is %v", err)
	}
	if len(changes) != 0 || !l.redirects() {
		t.Errorf("changed: %+v", changes)
	}
}

// policyOf is one part of the policy in force for a pod.
func (o *older) policyOf(p *lab.Pod, key string) (part adopt.Part, pending []string) {
	o.Helper()
	all, err := o.Policies(o.Context(), func(found pods.Pod) bool { return found.ID == p.ContainerID() })
	if err != nil || len(all) != 1 {
		o.Fatalf("policies %+v, %v", all, err)
	}
	i := slices.IndexFunc(all[0].Parts, func(part adopt.Part) bool { return part.Key == key })
	if i < 0 {
		o.Fatalf("no %s in %+v", key, all[0])
	}
	return all[0].Parts[i], all[0].Pending
}

// A policy in force is listed with its origin, and one that is not in force yet is listed as such.
func TestPoliciesNameTheOriginOfEachPart(t *testing.T) {
	o := newOlder(t, map[string]any{"peers": "namespace"})
	p := o.pod(lab.PodSpec{Namespace: "shop", Name: "db-0"})
	want := func(key, value string, from ...string) {
		t.Helper()
		part, _ := o.policyOf(p, key)
		if part.Value != value || !slices.Equal(part.From, from) {
			t.Errorf("%+v; want %q from %q", part, value, from)
		}
	}
	network := "network " + o.conf().Name
	want("enabled", "true", network+": configuration")
	want("peers", "namespace", network)
	want("ports.exclude", "none", network)
	o.turn(true, datapath.Switch{Kind: datapath.SwitchPort, Name: "5432"},
		datapath.Switch{Kind: datapath.SwitchNamespace, Name: "shop"})
	want("ports.exclude", "5432", "sockmapctl disable: port 5432")
	want("enabled", "false", "sockmapctl disable: namespace shop")
	o.setKeys(map[string]any{"peers": "pod"})
	if part, pending := o.policyOf(p, "peers"); part.Value != "namespace" ||
		!slices.Equal(pending, []string{"peers: namespace, now pod"}) {
		t.Errorf("%+v, not in force yet %q", part, pending)
	}
}
