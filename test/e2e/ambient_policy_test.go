// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// The policy of a hop depends on the network namespaces of its two sockets: those of applications' pods. The
// network namespace of ztunnel's own pod does not matter.
func TestPoliciesOfApplicationsHoldForHopsOfZtunnel(t *testing.T) {
	within := func(namespace string, spec lab.PodSpec) lab.PodSpec {
		spec.Namespace = namespace
		return spec
	}
	ports := func(kind string, ports ...string) map[string]any {
		return map[string]any{"ports": map[string]any{kind: ports}}
	}
	for _, tt := range []struct {
		name                    string
		keys                    map[string]any
		ztunnel, client, server lab.PodSpec
		want                    string
	}{
		{"peers node", map[string]any{"peers": "node"}, ztunnelSpec, clientSpec, serverSpec, allHops},
		{"peers namespace, of two", map[string]any{"peers": "namespace"}, ztunnelSpec, clientSpec, serverSpec,
			insideOfPods},
		{"peers namespace, of one", map[string]any{"peers": "namespace"}, ztunnelSpec, within("shop", clientSpec),
			serverSpec, allHops},
		{"peers pod", map[string]any{"peers": "pod"}, ztunnelSpec, within("shop", clientSpec), serverSpec,
			insideOfPods},
		// The port is the one where the passive end listens: ztunnel's at two of three hops.
		{"the application's port alone", ports("include", "8080"), ztunnelSpec, clientSpec, serverSpec,
			fromZtunnel},
		{"all three ports", ports("include", "8080", "15001", "15008"), ztunnelSpec, clientSpec, serverSpec,
			allHops},
		{"without the tunnel's port", ports("exclude", "15008"), ztunnelSpec, clientSpec, serverSpec, insideOfPods},
		{"without the application's port", ports("exclude", "8080"), ztunnelSpec, clientSpec, serverSpec,
			toZtunnel + " " + tunnel},
		{"the client opted out", nil, ztunnelSpec, optedOut(clientSpec), serverSpec, fromZtunnel},
		{"the server opted out", nil, ztunnelSpec, clientSpec, optedOut(serverSpec), toZtunnel},
		{"both opted out", nil, ztunnelSpec, optedOut(clientSpec), optedOut(serverSpec), ""},
		{"ztunnel opted out", nil, optedOut(ztunnelSpec), clientSpec, serverSpec, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.keys)
			m := enroll(t, w, w.pod(tt.ztunnel), w.pod(tt.client), w.pod(tt.server), false)
			m.join().want(tt.want)
		})
	}
}

// A ztunnel that has run since before sockmap is in no endpoint's cgroup until it is adopted.
func TestZtunnelThatIsNotAttachedUsesTCP(t *testing.T) {
	o := newOlder(t, nil)
	spec := ztunnelSpec
	spec.Conflist = o.before
	m := enroll(t, o.world, o.pod(spec), o.pod(clientSpec), o.pod(serverSpec), false)
	old := m.join()
	old.want("")
	if _, err := o.Adopt(t.Context(), every); err != nil {
		t.Fatal(err)
	}
	old.want("") // its sockets were made before
	old.client.Close()
	old.server.Close()
	m.join().want(allHops)
}

func TestSwitchesReachHopsOfZtunnel(t *testing.T) {
	m := newAmbient(t, nil)
	c := m.join()
	c.want(allHops)
	for _, tt := range []struct {
		part datapath.Switch
		want string
	}{
		{datapath.Switch{Kind: datapath.SwitchPod, Name: "web/front"}, fromZtunnel},
		{datapath.Switch{Kind: datapath.SwitchPod, Name: "shop/db"}, toZtunnel},
		{datapath.Switch{Kind: datapath.SwitchNamespace, Name: "shop"}, toZtunnel},
		{datapath.Switch{Kind: datapath.SwitchPort, Name: "15008"}, insideOfPods},
		// No socket of these hops is in ztunnel's own network namespace.
		{datapath.Switch{Kind: datapath.SwitchPod, Name: "istio-system/ztunnel"}, allHops},
	} {
		m.turn(true, tt.part)
		c.follows(tt.want)
		m.turn(false, tt.part)
		c.follows(allHops)
	}
}
