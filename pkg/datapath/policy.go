// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/portrange"
)

// MaxPortRanges is how many ranges each of include and exclude can hold.
const MaxPortRanges = int(bpf.SockmapAbiMAX_PORT_RANGES)

// Peers limits the peers of an endpoint's connections. Both ends must permit a connection.
type Peers uint8

// See bpf/abi.h.
const (
	PeersNode      = Peers(bpf.SockmapPeersPEERS_NODE)
	PeersNamespace = Peers(bpf.SockmapPeersPEERS_NAMESPACE)
	PeersPod       = Peers(bpf.SockmapPeersPEERS_POD)
)

// PortRange is inclusive at both ends.
type PortRange = portrange.Range

// String is the value of the key peers.
func (p Peers) String() string {
	switch p {
	case PeersNode:
		return "node"
	case PeersNamespace:
		return "namespace"
	case PeersPod:
		return "pod"
	}
	return fmt.Sprintf("number-%d", uint8(p))
}

// Policy is what an endpoint allows.
type Policy struct {
	Accelerate bool   // false: opted out, whichever link covers its cgroup
	Namespace  string // equal names are one namespace for PeersNamespace; empty: alone
	Group      uint64 // of a policy that was read: equal groups are one namespace; 0: follows from Namespace
	Peers      Peers
	Include    []PortRange // of the passive end; empty: every port
	Exclude    []PortRange
}

func (p Policy) encode(cookie uint64) (bpf.SockmapEndpoint, error) {
	ep := bpf.SockmapEndpoint{Group: cmp.Or(p.group(), cookie), Peers: uint8(p.Peers)}
	if err := p.check(); err != nil {
		return ep, err
	}
	if p.Accelerate {
		ep.Accelerate = 1
	}
	ep.Includes, ep.Excludes = uint8(len(p.Include)), uint8(len(p.Exclude))
	for i, r := range p.Include {
		ep.Include[i].First, ep.Include[i].Last = r.First, r.Last
	}
	for i, r := range p.Exclude {
		ep.Exclude[i].First, ep.Exclude[i].Last = r.First, r.Last
	}
	return ep, nil
}

func (p Policy) check() error {
	if len(p.Include) > MaxPortRanges || len(p.Exclude) > MaxPortRanges {
		return fmt.Errorf("ports have %d included and %d excluded ranges, at most %d each are possible",
			len(p.Include), len(p.Exclude), MaxPortRanges)
	}
	return nil
}

// group returns 0 for a policy that is alone in its namespace.
func (p Policy) group() uint64 {
	if p.Group != 0 || p.Namespace == "" {
		return p.Group
	}
	// Hashed so that it fits a word. Truncated SHA-256: nobody can choose a name that lands on another's.
	sum := sha256.Sum256([]byte(p.Namespace))
	return binary.NativeEndian.Uint64(sum[:8])
}

func decodePolicy(ep *bpf.SockmapEndpoint) Policy {
	p := Policy{Accelerate: ep.Accelerate != 0, Group: ep.Group, Peers: Peers(ep.Peers)}
	for _, r := range ep.Include[:min(int(ep.Includes), MaxPortRanges)] {
		p.Include = append(p.Include, PortRange{First: r.First, Last: r.Last})
	}
	for _, r := range ep.Exclude[:min(int(ep.Excludes), MaxPortRanges)] {
		p.Exclude = append(p.Exclude, PortRange{First: r.First, Last: r.Last})
	}
	return p
}

// Narrowest returns the policy that permits only what every policy permits: it accelerates if all do, and has
// the narrowest peers and the ports that all allow. Policies of different groups get a group of their own.
// The order does not matter. Without policies nothing is permitted.
//
// The ports of several policies may need more ranges than an endpoint holds. Then the smallest ranges are
// left out and returned: their ports stay on TCP.
func Narrowest(policies ...Policy) (p Policy, left []PortRange) {
	if len(policies) == 0 {
		return Policy{}, nil
	}
	p = policies[0]
	if len(policies) == 1 {
		return p, nil
	}
	for _, other := range policies[1:] {
		p.Accelerate = p.Accelerate && other.Accelerate
		p.Peers = max(p.Peers, other.Peers) // bpf/abi.h: the greater, the narrower
		if p.group() != other.group() {
			p.Namespace, p.Group = "", 0
		}
	}
	p.Include, p.Exclude, left = narrowestPorts(policies)
	return p, left
}
