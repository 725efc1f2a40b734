// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
	"github.com/sockmap-cni/sockmap-cni/test/lab/podcgroup"
)

// exchangeBytes is the size of each request and answer of the pods that are made and removed.
const exchangeBytes = 64

func TestSixtyPodsComeAndGo(t *testing.T) {
	const batches, atOnce = 6, 10
	w := newWorld(t, map[string]any{})
	for batch := range batches {
		w.comeAndGo(batch, atOnce)
	}
	w.wantNoEndpoints()
	went := w.Closed()
	// Each client blocks in recv, so the first answer to it uses TCP (REASON_EARLY).
	if went.Redirected == 0 || went.TCP > batches*atOnce*exchangeBytes {
		t.Errorf("%d bytes redirected, %d over TCP", went.Redirected, went.TCP)
	}
	calls := map[string]int{}
	for _, call := range w.Calls() {
		command, _, _ := strings.Cut(call, " ")
		calls[command]++
	}
	if calls["ADD"] != batches*atOnce || calls["DEL"] < batches*atOnce {
		t.Errorf("want %d calls of ADD and as many of DEL: %v", batches*atOnce, calls)
	}
	w.Found("many pods", "%d pods made and removed, %d at a time, %.4g %% redirected, leave nothing",
		batches*atOnce, atOnce, went.Percent())
}

// comeAndGo makes pods at the same time, lets each connect to the next, and removes them at the same time.
func (w *world) comeAndGo(batch, count int) {
	w.Helper()
	pods := make([]*pod, count)
	w.Cleanup(func() { // pods that are left after an error
		for _, p := range pods {
			if p != nil {
				_ = p.remove()
			}
		}
	})
	servers := make([]*container, count)
	w.atOnce(count, func(i int) (err error) {
		class := []qos{guaranteed, burstable, bestEffort}[i%3]
		if pods[i], err = w.makePod(podSpec{name: fmt.Sprintf("p%d-%d", batch, i), class: class}); err != nil {
			return err
		}
		servers[i], err = pods[i].startServer("s")
		return err
	})
	w.atOnce(count, func(i int) error {
		to := crinode.At(pods[(i+1)%count].ip4)
		out, err := servers[i].Exec("rr", "-connect", to, "-count", "200", "-size", strconv.Itoa(exchangeBytes),
			"-warmup", "0", "-timeout", "60s")
		if err != nil {
			return err
		}
		_, err = crinode.ParseReport(out)
		return err
	})
	w.atOnce(count, func(i int) error { return pods[i].remove() })
}

func (w *world) atOnce(count int, f func(i int) error) {
	w.Helper()
	var all errgroup.Group
	for i := range count {
		all.Go(func() error { return f(i) })
	}
	if err := all.Wait(); err != nil {
		w.Fatal(err)
	}
}

// wantNoEndpoints expects no trace of a pod in the data path, at IPAM, in the cgroups and in the runtime.
func (w *world) wantNoEndpoints() {
	w.Helper()
	if records := w.Records(); len(records) > 0 {
		w.Errorf("%d records are left: %+v", len(records), records)
	}
	links, err := (&endpoint.Node{Dir: w.Node.BPFFS()}).Links(w.Context())
	if err != nil || len(links) > 0 {
		w.Errorf("links are left: %v, %+v", err, links)
	}
	w.Eventually("no socket is left", func() bool { return len(w.Flows()) == 0 })
	endpoints, err := w.Datapath().Endpoints()
	if err != nil || len(endpoints) > 0 {
		w.Errorf("endpoints are left: %v, %v", err, endpoints)
	}
	cgroups, err := podcgroup.OfPods(podcgroup.OwnUIDs())
	if err != nil || len(cgroups) > 0 {
		w.Errorf("cgroups are left: %v, %q", err, cgroups)
	}
	for _, pattern := range []string{
		filepath.Join(w.Node.Dir(), "ipam", w.Network, "10.*"), // leases
		filepath.Join(w.Dir, "state", "io.containerd.grpc.v1.cri", "netns", "*"),
		filepath.Join(w.Dir, "state", "netns", "*"),
		filepath.Join(w.Dir, "state", "io.containerd.runtime.v2.task", "k8s.io", "*"),
		"/var/lib/cni/results/" + w.Network + "*",
	} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			w.Errorf("left: %v, %q", err, left)
		}
	}
	w.wantNoVeths()
}

func (w *world) wantNoVeths() {
	w.Helper()
	var links []netlink.Link
	err := w.Node.Do(func() (err error) {
		links, err = netlink.LinkList()
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	for _, l := range links {
		if l.Type() == "veth" {
			w.Errorf("interface %s is left", l.Attrs().Name)
		}
	}
}
