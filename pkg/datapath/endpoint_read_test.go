// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"reflect"
	"testing"
)

func TestARegisteredPolicyIsReadAsItWasWritten(t *testing.T) {
	d := load(t, bounded(64, 4096, 16))
	want := Policy{
		Accelerate: true, Peers: PeersNamespace,
		Include: []PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8999}},
		Exclude: []PortRange{{First: 8125, Last: 8125}},
	}
	for cookie, namespace := range map[uint64]string{1: "shop", 2: "shop", 3: "", 4: "bank"} {
		p := want
		p.Namespace, p.Group = namespace, 0
		if err := d.SetEndpoint(cookie, p); err != nil {
			t.Fatal(err)
		}
	}
	groups := map[uint64]uint64{}
	for cookie := range uint64(4) {
		r, ok, err := d.Endpoint(cookie + 1)
		want.Group = r.Group
		if err != nil || !ok || !reflect.DeepEqual(r.Policy, want) {
			t.Errorf("cookie %d: %+v, %v, %v", cookie+1, r, ok, err)
		}
		groups[cookie+1] = r.Group
	}
	if groups[1] != groups[2] || groups[1] == groups[3] || groups[1] == groups[4] || groups[3] == groups[4] {
		t.Errorf("groups %v: only 1 and 2 are of one namespace", groups)
	}
	if _, ok, err := d.Endpoint(99); ok || err != nil {
		t.Errorf("nobody is registered as 99: %v, %v", ok, err)
	}
}
