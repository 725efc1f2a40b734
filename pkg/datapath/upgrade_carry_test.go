// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
)

// makeABI2 turns what is loaded into state of ABI 2, whose maps have the same shapes.
func makeABI2(t testing.TB, d *Datapath) layout {
	t.Helper()
	old := layout{d.layout.dir, stateName(2)}
	if err := errors.Join(d.update(func(c *bpf.SockmapConfig) { c.Abi = 2 }),
		os.Rename(d.layout.state(), old.state()), d.Close()); err != nil {
		t.Fatal(err)
	}
	return old
}

func TestReplaceCarriesEverythingOver(t *testing.T) {
	for name, age := range map[string]func(testing.TB, *Datapath) layout{
		"other maps": makeOld, "ABI 2": makeABI2,
	} {
		t.Run(name, func(t *testing.T) { wantCarriedOver(t, age) })
	}
}

// wantCarriedOver wants Replace to keep what age has made old.
func wantCarriedOver(t *testing.T, age func(testing.TB, *Datapath) layout) {
	loaded := load(t, bounded(2048, 1<<20, 77))
	dir, g, byHand := loaded.Dir(), newGroup(t), newGroup(t)
	key := NewAttachmentKey("net", "one", "eth0")
	record := Attachment{Network: strings.Repeat("n", 300), ContainerID: "one", IfName: "eth0", NetNSCookie: 7,
		CgroupID: g.id}
	policy := Policy{Accelerate: true, Namespace: "shop", Peers: PeersNamespace,
		Exclude: []PortRange{{First: 22, Last: 22}}}
	for _, err := range []error{
		loaded.PutAttachment(key, record), loaded.SetEndpoint(7, policy), loaded.SetDisabled(true),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	byHand.attach(t, loaded)
	if _, err := loaded.Attach(g.dir, LinkKey{CgroupID: g.id}); err != nil {
		t.Fatal(err)
	}
	var endpoint, was bpf.SockmapEndpoint
	endpoints, err := loaded.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(was))
	if err != nil || endpoints.Lookup(uint64(7), &was) != nil {
		t.Fatal(err)
	}
	sums, err := loaded.totals()
	if err != nil {
		t.Fatal(err)
	}
	cpus := ebpf.MustPossibleCPU()
	counted := make([]bpf.SockmapTotals, cpus)
	for i := range counted {
		counted[i].RedirectedBytes = uint64(100 + i)
	}
	if err := sums.Put(uint64(7), counted); err != nil {
		t.Fatal(err)
	}
	before, err := loaded.Attachments()
	if err != nil {
		t.Fatal(err)
	}
	totals, err := loaded.Totals()
	if err != nil {
		t.Fatal(err)
	}
	age(t, loaded)

	d := mustReplace(t, dir)
	cfg, err := d.Config()
	if err != nil || cfg.MaxSockets != 2048 || cfg.MaxBacklogBytes != 1<<20 || cfg.MaxBacklogMessages != 77 ||
		!cfg.Disabled || cfg.Version != "new" {
		t.Errorf("config %+v, %v", cfg, err)
	}
	after, err := d.Attachments()
	if err != nil || len(after) != 1 || after[key].encode() != before[key].encode() {
		t.Errorf("records %+v, %v, want %+v", after, err, before)
	}
	endpoints, err = d.mapOf(bpf.SockmapMapEndpoints, unsafe.Sizeof(endpoint))
	if err != nil || endpoints.Lookup(uint64(7), &endpoint) != nil || endpoint != was {
		t.Errorf("endpoint %+v, %v, want %+v", endpoint, err, was)
	}
	now, err := d.Totals()
	if err != nil || now[7].RedirectedBytes != totals[7].RedirectedBytes || len(now) != len(totals) {
		t.Errorf("totals %v, %v, want %v", now, err, totals)
	}
	links, err := d.Links()
	slices.SortFunc(links, func(a, b Link) int { return strings.Compare(a.String(), b.String()) })
	if want := []Link{{LinkKey{g.id, false}, true}, {LinkKey{byHand.id, true}, true}}; err != nil ||
		!slices.Equal(links, want) {
		t.Errorf("links %v, %v, want %v", links, err, want)
	}
}
