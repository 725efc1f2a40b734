// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// putTotals writes the sums that programs would have made on the first CPU.
func putTotals(t *testing.T, d *Datapath, cookie uint64, sum bpf.SockmapTotals) {
	t.Helper()
	m, err := d.totals()
	if err != nil {
		t.Fatal(err)
	}
	var perCPU []bpf.SockmapTotals
	if err := m.Lookup(cookie, &perCPU); err != nil {
		t.Fatal(err)
	}
	perCPU[0] = sum
	if err := m.Put(cookie, perCPU); err != nil {
		t.Fatal(err)
	}
}

func redirectedBytes(t *testing.T, read func() (map[uint64]Totals, error)) map[uint64]uint64 {
	t.Helper()
	all, err := read()
	if err != nil {
		t.Fatal(err)
	}
	bytes := map[uint64]uint64{}
	for cookie, sum := range all {
		bytes[cookie] = sum.RedirectedBytes
	}
	return bytes
}

func TestTotalsOfADeletedEndpointStayInTheSumOnly(t *testing.T) {
	const stays, goes = 11, 12
	d := load(t, defaults)
	for cookie, n := range map[uint64]uint64{stays: 100, goes: 20} {
		if err := d.SetEndpoint(cookie, Policy{Accelerate: true}); err != nil {
			t.Fatal(err)
		}
		putTotals(t, d, cookie, bpf.SockmapTotals{RedirectedBytes: n})
	}
	putTotals(t, d, unregistered, bpf.SockmapTotals{RedirectedBytes: 3})

	for range 2 { // the second time it is gone already
		if err := d.DeleteEndpoint(goes); err != nil {
			t.Fatal(err)
		}
		want := map[uint64]uint64{stays: 100, unregistered: 23}
		if diff := cmp.Diff(want, redirectedBytes(t, d.Totals)); diff != "" {
			t.Errorf("totals: %s", diff)
		}
		want[unregistered] = 3
		if diff := cmp.Diff(want, redirectedBytes(t, d.PresentTotals)); diff != "" {
			t.Errorf("totals of present endpoints: %s", diff)
		}
	}
}

func TestCapacityIsTheSizeOfTheMaps(t *testing.T) {
	d := load(t, Settings{MaxSockets: 77, MaxBacklogBytes: 1, MaxBacklogMessages: 1})
	got, err := d.Capacity()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint32{MapSockets: 77, MapEndpoints: 16384, MapAttachments: 16384}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTotalsAddEveryCounterAndKeepTheMaximum(t *testing.T) {
	var a, b, want bpf.SockmapTotals
	for i := range wordsOf(&a) {
		wordsOf(&a)[i], wordsOf(&b)[i], wordsOf(&want)[i] = uint64(i), uint64(3*i), uint64(4*i)
	}
	want.BacklogHigh = b.BacklogHigh
	if addTotals(&a, &b); a != want {
		t.Errorf("the sum is %+v, want %+v", a, want)
	}
}
