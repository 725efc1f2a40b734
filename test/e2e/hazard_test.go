// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// A hazard of the kernel that no guard cures keeps acceleration off, until it is accepted for the node or the
// pod. A pod cannot accept the node's hazards.
func TestHazardsKeepAccelerationOffUntilAccepted(t *testing.T) {
	var ofNode []string
	for _, h := range hazard.Table {
		if h.Scope == hazard.ScopeNode {
			ofNode = append(ofNode, h.Name)
		}
	}
	w := newWorld(t, map[string]any{"acceptHazards": ofNode})
	a, b := w.pod(lab.PodSpec{Name: "a"}), w.pod(lab.PodSpec{Name: "b"})
	d := w.datapath()
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	left := hazard.Set(cfg.Hazards&^cfg.Guarded).Severe() &^ hazard.SetOf(ofNode...)
	if got := w.redirects(a, b, 80); got != (left == 0) {
		t.Errorf("accelerated: %v, with these hazards left: %s", got, left)
	}
	if left != 0 {
		wantDeclined(t, d, left)
	}
	accept := map[string]string{"sockmap-cni/accept-hazards": left.String()}
	c, e := w.pod(lab.PodSpec{Name: "c", Annotations: accept}),
		w.pod(lab.PodSpec{Name: "e", Annotations: accept})
	if !w.redirects(c, e, 80) {
		t.Errorf("pods that accept %s are not accelerated", left)
	}
	if got := w.redirects(c, a, 80); got != (left == 0) {
		t.Errorf("accelerated with a pod that accepts nothing: %v", got)
	}
}

func wantDeclined(t *testing.T, d *datapath.Datapath, left hazard.Set) {
	t.Helper()
	records, err := d.Attachments()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 2 {
		t.Errorf("%d records, want 2", len(records))
	}
	for _, r := range records {
		for _, name := range left.Names() {
			if !strings.Contains(r.Declined, name) {
				t.Errorf("%s: declined because of %q, which does not name %s", r.PodName, r.Declined, name)
			}
		}
	}
}
