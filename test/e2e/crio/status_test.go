// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// The answers are test data of pkg/pods.
var record = flag.String("record", "", "write CRI-O's status of each kind of pod to this `directory`")

func TestWhatCRIOSaysOfPods(t *testing.T) {
	w := newWorld(t)
	annotations := map[string]string{"sockmap-cni/accelerate": "true"}
	asked, err := pods.DialCRI(w.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { asked.Close() })
	want := map[string]pods.Pod{}
	for kind, spec := range map[string]podSpec{
		"without-pause": {annotations: annotations},
		"with-pause":    {annotations: annotations, sharedPID: true},
		"host-network":  {annotations: annotations, hostNetwork: true},
	} {
		spec.name = kind
		p := w.newPod(t, spec)
		want[kind] = pods.Pod{
			ID: p.id, Namespace: "default", Name: kind, UID: p.uid, Annotations: p.config.Annotations,
			Cgroup: p.cgroup(), HostNetwork: spec.hostNetwork, From: pods.FromCRI,
		}
		if *record != "" {
			p.record(t, filepath.Join(*record, "crio-"+kind+".json"))
		}
	}
	found, err := asked.Pods(t.Context())
	if err != nil || len(found) != len(want) {
		t.Fatalf("%+v, %v; want %d pods", found, err, len(want))
	}
	for _, p := range found {
		if p.HostNetwork != (p.NetNS == "") {
			t.Errorf("%s: hostNetwork is %v, the network namespace %q", p.Name, p.HostNetwork, p.NetNS)
		}
		if p.NetNS != "" {
			if own, err := netns.SameAsOwn(p.NetNS); own || err != nil {
				t.Errorf("%s: %s is this process's network namespace: %v, %v", p.Name, p.NetNS, own, err)
			}
		}
		p.NetNS = ""
		if diff := cmp.Diff(want[p.Name], p); diff != "" {
			t.Errorf("%s: %s", p.Name, diff)
		}
	}
}

func (p *pod) record(t *testing.T, file string) {
	t.Helper()
	text, err := json.MarshalIndent(p.status(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
