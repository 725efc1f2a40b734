// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"reflect"
	"slices"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestPolicyOf(t *testing.T) {
	for text, want := range map[string]datapath.Peers{
		"node": datapath.PeersNode, "namespace": datapath.PeersNamespace, "pod": datapath.PeersPod,
	} {
		conf, err := cniconf.Parse([]byte(`{"peers":"` + text +
			`","ports":{"include":["80","8000-8999"],"exclude":["21"]}}`))
		if err != nil {
			t.Fatal(err)
		}
		got := policyOf(conf, endpoint.Sandbox{PodNamespace: "default"})
		if diff := cmp.Diff(datapath.Policy{
			Namespace: "default", Peers: want,
			Include: []datapath.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 8999}},
			Exclude: []datapath.PortRange{{First: 21, Last: 21}},
		}, got); diff != "" {
			t.Errorf("peers %s (-want +got):\n%s", text, diff)
		}
	}
}

func TestPolicyKeysCoverEveryFieldOfAPolicy(t *testing.T) {
	ofNoKey := []string{"Accelerate", "Namespace", "Group"} // enabled, and the pod
	for _, field := range reflect.VisibleFields(reflect.TypeFor[datapath.Policy]()) {
		if slices.Contains(ofNoKey, field.Name) {
			continue
		}
		var p datapath.Policy
		switch v := reflect.ValueOf(&p).Elem().FieldByIndex(field.Index); {
		case v.CanUint():
			v.SetUint(1)
		case v.Type() == reflect.TypeFor[[]datapath.PortRange]():
			v.Set(reflect.ValueOf([]datapath.PortRange{{First: 80, Last: 81}}))
		default:
			t.Fatalf("this test cannot set %s", field.Name)
		}
		if len(policyDifferences(datapath.Policy{}, p)) == 0 {
			t.Errorf("no row of PolicyKeys shows %s", field.Name)
		}
	}
}
