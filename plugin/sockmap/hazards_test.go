// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// loadHazards loads as on a kernel that has these hazards.
func (w *world) loadHazards(names ...string) {
	w.Helper()
	n := endpoint.Node{Dir: w.node.BPFFS(), Settings: datapath.Settings{
		MaxSockets: cniconf.DefaultMaxSockets, MaxBacklogBytes: cniconf.DefaultMaxBacklogBytes,
		MaxBacklogMessages: cniconf.DefaultMaxBacklogMessages,
		Probe: func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
			return uint32(hazard.SetOf(names...)), 0, nil
		},
	}}
	if _, err := n.Load(w.Context()); err != nil {
		w.Fatal(err)
	}
}

func TestAPodCannotAcceptHazardsOfTheNode(t *testing.T) {
	w := newWorld(t)
	w.loadHazards("splice", "mptcp")
	for _, tt := range []struct {
		name, annotation string
		key              []string
		log, declined    []string // declined: nil if it is accelerated
	}{
		{"all", "all", nil, []string{"not accelerated", "mptcp"}, []string{"no guard cures here: mptcp ("}},
		{
			"by name", "splice,mptcp", nil, []string{`mptcp\" is ignored`, "hazard of the node", "acceptHazards"},
			[]string{"no guard cures here: mptcp ("},
		},
		{"that of the node by the key", "splice", []string{"mptcp"}, nil, nil},
	} {
		p := w.pod()
		a := w.mustAdd(p, keys{"acceptHazards": tt.key, "runtimeConfig": map[string]any{
			cniconf.CapabilityCgroupPath:     w.cgroup(p),
			cniconf.CapabilityPodAnnotations: map[string]string{cniconf.AnnotationAcceptHazards: tt.annotation},
		}})
		expectTexts(t, tt.name+": the log", a.stderr, tt.log...)
		r := w.records()[p.ContainerID()]
		if r.Accelerated() != (tt.declined == nil) {
			t.Errorf("%s: accelerated: %v, record %+v", tt.name, r.Accelerated(), r)
		}
		expectTexts(t, tt.name+": the record", r.Declined, tt.declined...)
	}
}
