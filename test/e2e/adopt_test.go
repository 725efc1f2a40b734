// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/admit"
	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

// older is a node on which pods have run since before the plugin was added to the list of their network.
type older struct {
	*world
	before  []byte // the list without the plugin
	confDir string
	*adopt.Adopter
}

func newOlder(t *testing.T, keys map[string]any) *older {
	t.Helper()
	w := newWorld(t, keys)
	before := labtest.Conflist(t, w.node, lab.Network{Bridge: "br0", Subnets: dualStack,
		Without: []string{"sockmap"}})
	confDir := t.TempDir()
	if err := os.WriteFile(filepath.Join(confDir, "10-net.conflist"), w.conflist, 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	return &older{w, before, confDir, &adopt.Adopter{
		Find:  pods.Sources{Caches: []string{filepath.Join(w.node.Dir(), "cni")}}.Find,
		Confs: func() ([]*cniconf.Conf, error) { return install.ValidEntries(confDir) },
		Node: func(conf *cniconf.Conf) *endpoint.Node {
			return &endpoint.Node{Dir: conf.BPFFSPath, Settings: admit.Settings(conf, nil), Log: log}
		},
		Log: log,
	}}
}

func (o *older) conf() *cniconf.Conf {
	o.Helper()
	confs, err := o.Confs()
	if err != nil || len(confs) != 1 {
		o.Fatalf("entries: %v, %v", confs, err)
	}
	return confs[0]
}

func (o *older) oldPod(annotations map[string]string) *lab.Pod {
	o.Helper()
	return o.pod(lab.PodSpec{Conflist: o.before, Annotations: annotations})
}

func every(pods.Pod) bool { return true }

// stand is the state of all pods, by their ids.
func (o *older) stand(found []adopt.PodStatus, err error) map[string]adopt.PodStatus {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
	all := map[string]adopt.PodStatus{}
	for _, s := range found {
		all[s.ID] = s
	}
	return all
}

func (o *older) want(all map[string]adopt.PodStatus, p *lab.Pod, state adopt.State, reason string,
	adopted bool) {
	o.Helper()
	s, ok := all[p.ContainerID()]
	if !ok || s.State != state || s.Reason != reason || s.Adopted != adopted {
		o.Errorf("pod %s: %+v; want %s, %q, adopted %v", p, s, state, reason, adopted)
	}
}

func TestPodsThatRunAreAdopted(t *testing.T) {
	o := newOlder(t, nil)
	a, b := o.oldPod(nil), o.oldPod(nil)
	// Its name comes first: an opt-out is stored where the programs are loaded, and they are not loaded yet.
	out := o.pod(lab.PodSpec{
		Name: "a-first", Conflist: o.before, Annotations: map[string]string{cniconf.AnnotationAccelerate: "false"},
	})
	l := listen(t, &b.Place, at(b.IP4(), 0))
	oldClient, oldServer := connect(t, &a.Place, at(b.IP4(), port(l)), l)
	duplex(t, oldClient, oldServer, 10_000)

	looked := o.stand(o.Status(t.Context()))
	for _, p := range []*lab.Pod{a, b, out} {
		o.want(looked, p, adopt.LeftOut, adopt.ReasonOlder, false)
	}
	if s := looked[a.ContainerID()]; s.Namespace != a.Spec().Namespace || s.Name != a.Spec().Name ||
		s.UID != a.Spec().UID {
		t.Errorf("the pod is taken for %+v", s.Pod)
	}
	adopted := o.stand(o.Adopt(t.Context(), every))
	o.want(adopted, a, adopt.Accelerated, "", true)
	o.want(adopted, b, adopt.Accelerated, "", true)
	o.want(adopted, out, adopt.OptedOut, "opted-out", true)
	again := o.stand(o.Adopt(t.Context(), every))
	o.want(again, a, adopt.Accelerated, "", false)
	o.want(again, out, adopt.OptedOut, "opted-out", false)

	d := o.datapath()
	duplex(t, oldClient, oldServer, 10_000)
	wantPlain(t, d, oldClient, oldServer)
	client, server := connect(t, &a.Place, at(b.IP4(), port(l)), l)
	duplex(t, client, server, 10_000)
	wantRedirected(t, d, 10_000, client, server)

	// The runtime's DEL finds the attachment under its key.
	if err := o.node.DEL(t.Context(), o.conflist, a); err != nil {
		t.Fatal(err)
	}
	records, err := o.Node(o.conf()).Attachments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.ContainerID == a.ContainerID() {
			t.Errorf("after DEL there is %+v", r)
		}
	}
}

func TestAPodOfAnotherNetworkIsLeftOut(t *testing.T) {
	o := newOlder(t, nil)
	other := labtest.Conflist(t, o.node, lab.Network{
		Name: "other", Bridge: "br0", Subnets: dualStack, Without: []string{"sockmap"},
	})
	p := o.pod(lab.PodSpec{Conflist: other})
	o.want(o.stand(o.Adopt(t.Context(), every)), p, adopt.LeftOut, adopt.ReasonOtherList, false)
}

func TestAPodThatIsNotNamedIsNotAdopted(t *testing.T) {
	o := newOlder(t, nil)
	named, other := o.oldPod(nil), o.oldPod(nil)
	all := o.stand(o.Adopt(t.Context(), func(p pods.Pod) bool { return p.ID == named.ContainerID() }))
	o.want(all, named, adopt.Accelerated, "", true)
	o.want(o.stand(o.Status(t.Context())), other, adopt.LeftOut, adopt.ReasonOlder, false)
}

// A pod that ends between the listing and the write of its attachment leaves nothing, if the runtime can be
// asked.
func TestPodThatEndsDuringAdoptionLeavesNothing(t *testing.T) {
	o := newOlder(t, nil)
	p := o.oldPod(nil)
	cached := o.Find
	o.Find = func(ctx context.Context) ([]pods.Pod, error) { // from a runtime that can be asked
		all, err := cached(ctx)
		for i := range all {
			all[i].From = pods.FromCRI
		}
		return all, err
	}
	o.Runs = func(context.Context, string) (bool, error) { return false, nil }
	all := o.stand(o.Adopt(t.Context(), every))
	o.want(all, p, adopt.LeftOut, adopt.ReasonOlder, false)
	if records, err := o.Node(o.conf()).Attachments(t.Context()); err != nil || len(records) != 0 {
		t.Errorf("left: %+v, %v", records, err)
	}
}

// Two processes adopt at the same time, while the runtime adds and removes pods: pods that live are
// accelerated, and the others have no attachment after they are reaped.
func TestAdoptionDuringAddAndDelOfTheRuntime(t *testing.T) {
	const each = 8
	o := newOlder(t, nil)
	var stay, gone []*lab.Pod
	for range each {
		stay, gone = append(stay, o.oldPod(nil)), append(gone, o.oldPod(nil))
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 3 {
				if _, err := o.Adopt(t.Context(), every); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var mu sync.Mutex
	var fresh []*lab.Pod
	wg.Go(func() {
		for range each {
			p, err := o.node.NewPod(t.Context(), lab.PodSpec{Conflist: o.conflist})
			if err != nil {
				t.Error(err)
				continue
			}
			mu.Lock()
			fresh = append(fresh, p)
			mu.Unlock()
		}
	})
	wg.Go(func() {
		for _, p := range gone {
			if err := p.Delete(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if _, err := o.Node(o.conf()).Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := o.stand(o.Adopt(t.Context(), every))
	for _, p := range append(stay, fresh...) {
		o.want(all, p, adopt.Accelerated, "", false)
	}
	records, err := o.Node(o.conf()).Attachments(t.Context())
	if err != nil || len(records) != len(stay)+len(fresh) {
		t.Errorf("%d records of %d pods, %v", len(records), len(stay)+len(fresh), err)
	}
	for _, p := range fresh {
		if err := p.Delete(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestAHundredPodsAreAdopted logs how long it takes. A connection of the pods continues meanwhile.
func TestAHundredPodsAreAdopted(t *testing.T) {
	const many = 100
	o := newOlder(t, nil)
	var all []*lab.Pod
	for range many {
		all = append(all, o.oldPod(nil))
	}
	l := listen(t, &all[1].Place, at(all[1].IP4(), 0))
	client, server := connect(t, &all[0].Place, at(all[1].IP4(), port(l)), l)
	stop, echoed := make(chan struct{}), make(chan error, 1)
	go func() { echoed <- echo(client, server, stop) }()
	begin := time.Now()
	found := o.stand(o.Adopt(t.Context(), every))
	took := time.Since(begin)
	close(stop)
	if err := <-echoed; err != nil {
		t.Error(err)
	}
	for _, p := range all {
		o.want(found, p, adopt.Accelerated, "", true)
	}
	t.Logf("%d pods were adopted in %v", many, took)
}

// echo exchanges messages until stop is closed. Each answer must come within a second.
func echo(client, server net.Conn, stop <-chan struct{}) error {
	buf := make([]byte, 64)
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		end := time.Now().Add(time.Second)
		for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
			if err := pair[1].SetReadDeadline(end); err != nil {
				return err
			}
			if _, err := pair[0].Write(buf); err != nil {
				return fmt.Errorf("message %d: %w", n, err)
			}
			for got := 0; got < len(buf); {
				m, err := pair[1].Read(buf[got:])
				if err != nil {
					return fmt.Errorf("message %d: %w", n, err)
				}
				got += m
			}
		}
	}
}
