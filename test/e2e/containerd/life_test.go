// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
)

func TestContainerRestartInALivingPod(t *testing.T) {
	w := newWorld(t, map[string]any{})
	client, server := w.pair()
	w.WantRedirected(client, crinode.At(server.pod.ip4))
	calls := networkCalls(w.Calls())
	for range 2 {
		server.end(t)
		server = server.pod.serve(t)
		w.wantInPodCgroup(server)
		w.WantRedirected(client, crinode.At(server.pod.ip4))
	}
	if now := networkCalls(w.Calls()); !slices.Equal(calls, now) {
		t.Errorf("the plugin was called for a container: %q, before %q", now, calls)
	}
	w.Found("container restart", "%s after a container restart, without a call of the plugin", w.Share())
}

func networkCalls(calls []string) []string {
	return slices.DeleteFunc(slices.Clone(calls), func(call string) bool { return call == "STATUS" })
}

// The kubelet makes a new sandbox in the same cgroup when a pause container dies, and asks containerd later
// to remove the old one.
func TestSandboxRecreatedInTheSameCgroup(t *testing.T) {
	w := newWorld(t, map[string]any{})
	old := w.newPod(t, podSpec{name: "server", class: burstable})
	old.serve(t)
	client := w.newPod(t, podSpec{name: "client", class: burstable}).idle(t)
	w.WantRedirected(client, crinode.At(old.ip4))
	w.killSandbox(old)

	again := old.spec
	again.attempt++
	p := w.newPod(t, again)
	p.serve(t)
	w.WantRedirected(client, crinode.At(p.ip4))
	load := client.pod.startLoad(t, "rr", crinode.At(p.ip6))
	w.waitForLoad(crinode.At(p.ip6))

	id := old.id
	if err := old.removeSandbox(); err != nil {
		t.Fatal(err)
	}
	calls := w.Calls()
	if added, removed := slices.Index(calls, "ADD "+p.id), slices.Index(calls, "DEL "+id); added < 0 ||
		removed < added {
		t.Fatalf("want ADD of the new sandbox before DEL of the old one: %q", calls)
	}
	if r, left := w.Records()[id]; left {
		t.Errorf("the old sandbox is still recorded: %+v", r)
	}
	w.wantEndpoint(p)
	w.wantLoadGoesOn(crinode.At(p.ip6))
	wantReport(t, load)
	w.WantRedirected(client, crinode.At(p.ip4))
	w.Found("sandbox re-created",
		"%s after a sandbox is made again in its pod's cgroup and the old one's DEL comes late", w.Share())
}

// killSandbox ends the pause program and waits until containerd knows.
func (w *world) killSandbox(p *pod) {
	w.Helper()
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		w.Fatal(err)
	}
	w.Eventually("containerd knows that the sandbox is dead", func() bool {
		var is struct{ Status struct{ State string } }
		if err := w.inspect(&is, "inspectp", "-o", "json", p.id); err != nil {
			w.Fatal(err)
		}
		return is.Status.State == "SANDBOX_NOTREADY"
	})
}

// load is the client's end of the one flow to an address.
func (w *world) load(address string) (datapath.Flow, bool) {
	w.Helper()
	for _, f := range w.FlowsTo(address) {
		if f.Role == datapath.RoleActive {
			return f, true
		}
	}
	return datapath.Flow{}, false
}

func (w *world) waitForLoad(address string) {
	w.Helper()
	w.Eventually("there is load to "+address, func() bool {
		f, ok := w.load(address)
		return ok && f.RedirectedBytes > 100_000
	})
}

// wantLoadGoesOn expects that the flow exists, and redirects more bytes.
func (w *world) wantLoadGoesOn(address string) {
	w.Helper()
	before, ok := w.load(address)
	if !ok {
		w.Fatalf("the load to %s has ended", address)
	}
	w.Eventually("more is redirected to "+address, func() bool {
		f, ok := w.load(address)
		return ok && f.RedirectedBytes > before.RedirectedBytes
	})
}

// startLoad starts a client, of requests or a stream, that runs until wantReport.
func (p *pod) startLoad(t *testing.T, kind, address string) *container {
	t.Helper()
	return p.start(t, kind, "-connect", address, "-duration", "3m", "-timeout", "4m", "-size", "512")
}

// wantReport ends a load, and expects that both ends have compared every byte.
func wantReport(t *testing.T, load *container) {
	t.Helper()
	if err := unix.Kill(load.process(t), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	out, err := crinode.FirstLine(load.log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := crinode.ParseReport(out); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestContainerdRestartedUnderLoad(t *testing.T) {
	w := newWorld(t, map[string]any{})
	client, server := w.pair()
	before := w.Closed()
	requests, stream := crinode.At(server.pod.ip4), crinode.At(server.pod.ip6)
	loads := []*container{client.pod.startLoad(t, "rr", requests), client.pod.startLoad(t, "stream", stream)}
	w.waitForLoad(requests)
	w.waitForLoad(stream)
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		w.Stop(t, signal)
		w.wantLoadGoesOn(requests)
		w.wantLoadGoesOn(stream)
		w.daemon.start(t)
		w.wantLoadGoesOn(requests)
		w.wantLoadGoesOn(stream)
	}
	f, _ := w.load(requests)
	if f.TCPBytes > 0 || f.Mode != datapath.ModeRedirect {
		t.Errorf("want every request redirected: %+v", f)
	}
	for _, load := range loads {
		wantReport(t, load)
	}
	went := w.Closed().Minus(before)
	t.Logf("%.1f %% of %d MB redirected", went.Percent(), (went.Redirected+went.TCP)>>20)

	w.WantRedirected(client, requests)
	w.wantEndpoint(client.pod)
	late := w.newPod(t, podSpec{name: "late", class: bestEffort})
	w.WantRedirected(late.idle(t), requests)
	w.Found("containerd restarted",
		"%.4g %% of %d MiB redirected, none lost, while containerd is restarted and killed",
		went.Percent(), (went.Redirected+went.TCP)>>20)
}
