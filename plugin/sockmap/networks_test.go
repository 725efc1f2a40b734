// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

func (w *world) endpointOf(p *lab.Pod, network string) datapath.Registered {
	w.Helper()
	d, err := datapath.Open(w.node.BPFFS())
	if err != nil {
		w.Fatal(err)
	}
	defer d.Close()
	a, ok, err := d.Attachment(datapath.NewAttachmentKey(network, p.ContainerID(), "eth0"))
	if err != nil || !ok {
		w.Fatalf("record in network %s: %v, %v", network, ok, err)
	}
	r, ok, err := d.Endpoint(a.NetNSCookie)
	if err != nil || !ok {
		w.Fatalf("endpoint of network %s: %v, %v", network, ok, err)
	}
	return r
}

func TestAContainerInTwoNetworksHasTheNarrowerPolicy(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	a, b := keys{"name": "a", "peers": "pod"}, keys{"name": "b", "peers": "node",
		"ports": map[string]any{"exclude": []string{"8080"}}}
	w.mustAdd(p, a)
	w.mustAdd(p, b)
	if r := w.endpointOf(p, "a"); r.Peers != datapath.PeersPod || len(r.Exclude) != 1 {
		t.Errorf("in both networks: %+v", r)
	}
	if got := run(t, env("DEL", p), w.conf(p, b)); got.err != nil {
		t.Fatal(got.err)
	}
	if r := w.endpointOf(p, "a"); r.Peers != datapath.PeersPod || r.Exclude != nil {
		t.Errorf("after DEL of one: %+v", r)
	}
}

func TestAContainerThatOptedOutOfOneNetworkIsNotAccelerated(t *testing.T) {
	w := newWorld(t)
	w.mustAdd(w.pod(), nil) // loads
	p := w.pod()
	w.mustAdd(p, keys{"name": "a", "runtimeConfig": map[string]any{
		cniconf.CapabilityPodAnnotations: map[string]string{cniconf.AnnotationAccelerate: "false"},
	}})
	expectTexts(t, "the log", w.mustAdd(p, keys{"name": "b"}).stderr, "stays on TCP", "opted out")
	if r := w.endpointOf(p, "b"); r.Accelerate {
		t.Errorf("endpoint %+v", r)
	}
}
