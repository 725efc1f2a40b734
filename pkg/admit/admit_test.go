// SPDX-License-Identifier: Apache-2.0

package admit

import (
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
		conf, err := cniconf.Parse([]byte(`{"peers":"` + text + `","ports":{"include":["80","8000-8999"],"exclude":["21"]}}`))
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
