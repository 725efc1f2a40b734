// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestConfigurationKnowsTheGuardsOfTheDataPath(t *testing.T) {
	if diff := cmp.Diff(datapath.Guards[:], hazard.GuardNames()); diff != "" {
		t.Error(diff)
	}
}

// No kernel moves redirected bytes by splice.
func TestWithoutGuardsHazardsKeepAccelerationOffUntilAccepted(t *testing.T) {
	w := newWorld(t)
	bare := keys{"guards": []string{}, "acceptHazards": nil}
	declined := w.pod()
	a := w.mustAdd(declined, bare)
	expectTexts(t, "the log", a.stderr, "not accelerated", "splice", "acceptHazards")
	expectTexts(t, "the record", w.records()[declined.ContainerID()].Declined, "splice", "sockmapctl doctor")
	if got := w.records()[declined.ContainerID()].Reason; got != decline.Hazards {
		t.Errorf("the record has the reason %q", got)
	}

	bare["required"] = true
	expectCode(t, w.add(w.pod(), bare), decline.Hazards.Code(), "splice", "acceptHazards")

	// A blocking receive that a signal ends is one of them, on every kernel.
	var others []string
	for _, h := range hazard.Table {
		if h.Name != "eagain" {
			others = append(others, h.Name)
		}
	}
	bare["acceptHazards"] = others
	expectCode(t, w.add(w.pod(), bare), decline.Hazards.Code(), "no guard cures here: eagain (")
	bare["required"] = false
	declined = w.pod()
	w.mustAdd(declined, bare)
	expectTexts(t, "the record", w.records()[declined.ContainerID()].Declined, "no guard cures here: eagain (")
	bare["required"] = true

	accepting := w.pod()
	bare["acceptHazards"] = []string{"all"}
	w.mustAdd(accepting, bare)
	if r := w.records()[accepting.ContainerID()]; !r.Accelerated() {
		t.Errorf("with all hazards accepted: %+v", r)
	}

	d, err := datapath.Open(w.node.BPFFS())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	guards, err := d.GuardStates()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range guards {
		if g.Active || !g.SwitchedOff() {
			t.Errorf("guards is [], and %+v", g)
		}
	}
}
