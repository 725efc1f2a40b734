// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// enough is the share above which nobody asks why the rest went by TCP: connections begin there.
const enough = 0.85

// lasting reasons hold for the rest of a connection: where there is one, it is why.
var lasting = []datapath.Reason{
	datapath.ReasonBlocking, datapath.ReasonPages, datapath.ReasonCorked, datapath.ReasonSmall, datapath.ReasonULP,
	datapath.ReasonZerocopy, datapath.ReasonWaitall, datapath.ReasonDiscard, datapath.ReasonOOB, datapath.ReasonRcvlowat,
	datapath.ReasonInq, datapath.ReasonOption, datapath.ReasonLeaving,
}

// reasonsOf says why not all that peer has sent was redirected: what became of connections that never joined, the reasons
// that last, and only where there are neither, those that pass.
func reasonsOf(own, peer sent) (names []string) {
	for _, r := range datapath.Results() {
		// Both ends are on this node: where one stays out, the other finds nobody, and is told that the peer is remote.
		if r != datapath.ResultJoined && r != datapath.ResultRemote && own.results[r.String()]+peer.results[r.String()] > 0 {
			names = append(names, "connection: "+r.String())
		}
	}
	passing := []string{}
	for _, r := range datapath.Reasons() {
		switch {
		case peer.reasons[r.String()] == 0:
		case slices.Contains(lasting, r):
			names = append(names, "message: "+r.String())
		default:
			passing = append(passing, "message: "+r.String())
		}
	}
	if len(names) == 0 {
		return passing
	}
	return names
}
