// SPDX-License-Identifier: Apache-2.0

package livetest

import (
	"net/netip"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
)

// Flows are two pairs, and a socket whose peer has not joined.
func Flows() []live.Flow {
	end := func(local, remote, pod, peer, role string) live.Flow {
		v := live.Flow{
			Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote),
			Role: role, Joined: true, Mode: "redirect",
			Namespace: "shop", Pod: pod, PeerNamespace: "data", PeerPod: peer,
			Labels: [2]string{"shop/" + pod, "data/" + peer},
		}
		if role == "passive" {
			v.Namespace, v.PeerNamespace = "data", "shop"
			v.Labels = [2]string{"data/" + pod, "shop/" + peer}
		}
		return v
	}
	flows := []live.Flow{
		end("10.1.0.2:4001", "10.1.0.3:5432", "web-0", "db-0", "active"),
		end("10.1.0.3:5432", "10.1.0.2:4001", "db-0", "web-0", "passive"),
		end("[fd00::2]:4002", "[fd00::4]:8080", "web-1", "cache-0", "active"),
		end("[fd00::4]:8080", "[fd00::2]:4002", "cache-0", "web-1", "passive"),
		end("10.1.0.2:4003", "10.9.9.9:443", "web-0", "", "active"),
	}
	for i := range flows {
		flows[i].Key = datapath.EndKey{Own: uint32(i/2*2 + i%2), Peer: uint32(i/2*2 + 1 - i%2)}
		flows[i].RedirectedBytes, flows[i].AgeSeconds = uint64(1000*i), float64(100-i)
	}
	flows[1].Mode, flows[1].Reason, flows[1].TCPBytes = "tcp", "unread", 9000
	flows[3].BacklogBytes = 77
	flows[4].Mode, flows[4].PeerNamespace, flows[4].Joined, flows[4].Labels[1] = "pending", "", false, ""
	return flows
}
