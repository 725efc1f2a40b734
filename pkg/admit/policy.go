// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// The configuration takes as many ranges of ports as the programs do: this does not compile if the two
// differ.
const _ = uint(datapath.MaxPortRanges-cniconf.MaxPortRanges) +
	uint(cniconf.MaxPortRanges-datapath.MaxPortRanges)

func policyOf(conf *cniconf.Conf, sb endpoint.Sandbox) datapath.Policy {
	peers := map[cniconf.Peers]datapath.Peers{
		cniconf.PeersNode: datapath.PeersNode, cniconf.PeersNamespace: datapath.PeersNamespace,
		cniconf.PeersPod: datapath.PeersPod,
	}
	return datapath.Policy{
		Namespace: sb.PodNamespace, Peers: peers[conf.Peers],
		Include: conf.Ports.Include, Exclude: conf.Ports.Exclude,
	}
}

// PolicyKey is a key of the entry that becomes a part of an endpoint's policy.
type PolicyKey struct {
	Name string
	Text func(datapath.Policy) string // of its value, for people
	// Decides reports whether an attachment with the first policy is a reason for the value of the second, which
	// is in force. nil: if both have the same value.
	Decides func(attachment, inForce datapath.Policy) bool
}

// PolicyKeys has all of them, in the order of docs/CONFIGURATION.md: sockmapctl policy lists them, and a
// change of their values is applied to running pods.
var PolicyKeys = []PolicyKey{
	{"peers", func(p datapath.Policy) string { return p.Peers.String() }, nil},
	{
		"ports.include", func(p datapath.Policy) string { return portsText(p.Include, "all") },
		func(attachment, inForce datapath.Policy) bool {
			return len(attachment.Include) > 0 || len(inForce.Include) == 0
		},
	},
	{
		PortsExclude, func(p datapath.Policy) string { return portsText(p.Exclude, "none") },
		func(attachment, inForce datapath.Policy) bool {
			return len(attachment.Exclude) > 0 || len(inForce.Exclude) == 0
		},
	},
}

// PortsExclude is the name of the key whose value sockmapctl disable changes, too.
const PortsExclude = "ports.exclude"

// From reports whether the attachment with this policy is a reason for the value that is in force.
func (k PolicyKey) From(attachment, inForce datapath.Policy) bool {
	if k.Decides == nil {
		return k.Text(attachment) == k.Text(inForce)
	}
	return k.Decides(attachment, inForce)
}

// portsText formats a list of ports. It returns empty for an empty list.
func portsText(ranges []datapath.PortRange, empty string) string {
	if len(ranges) == 0 {
		return empty
	}
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}
