// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func (w *world) calls() map[datapath.CallKey]uint64 {
	w.Helper()
	d, err := datapath.Open(w.node.BPFFS())
	if err != nil {
		w.Fatal(err)
	}
	defer d.Close()
	all, err := d.Calls()
	if err != nil {
		w.Fatal(err)
	}
	counts := map[datapath.CallKey]uint64{}
	for k, sums := range all {
		counts[k] = sums.Calls
		if sums.Total <= 0 {
			w.Errorf("%v took %v", k, sums.Total)
		}
	}
	return counts
}

func TestCallsAreCountedByTheirEnd(t *testing.T) {
	w := newWorld(t)
	p, other := w.pod(), w.pod()
	w.mustAdd(p, nil)
	// declined, and not reported to the runtime
	w.mustAdd(other, keys{"cgroupPath": "/nowhere", "runtimeConfig": nil})
	if a := w.add(other, keys{"cgroupPath": "/nowhere", "required": true}); a.err == nil {
		t.Error("ADD with a cgroup that is not there succeeds although it is required")
	}
	if a := w.add(other, keys{"maxSockets": -1}); a.err == nil {
		t.Error("ADD with a wrong key succeeds")
	}
	for _, verb := range []string{"CHECK", "DEL", "DEL", "GC", "STATUS"} {
		if a := run(t, env(verb, p), w.conf(p, nil)); a.err != nil {
			t.Errorf("%s: %v", verb, a.err)
		}
	}
	want := map[datapath.CallKey]uint64{
		{Command: "ADD"}: 1, {Command: "ADD", Code: 7, Withheld: true}: 1, {Command: "ADD", Code: 7}: 2,
		{Command: "CHECK"}: 1, {Command: "DEL"}: 2, {Command: "GC"}: 1,
	}
	if diff := cmp.Diff(want, w.calls()); diff != "" {
		t.Error(diff)
	}
}
