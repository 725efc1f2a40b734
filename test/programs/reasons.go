// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// enough is the share of redirected bytes above which no reason is given for the rest: each connection begins
// on TCP.
const enough = 0.85

// lasting reasons hold for the rest of a connection. If there is one, it is the cause.
var lasting = []datapath.Reason{
	datapath.ReasonBlocking, datapath.ReasonPages, datapath.ReasonCorked, datapath.ReasonSmall,
	datapath.ReasonULP,
	datapath.ReasonZerocopy, datapath.ReasonWaitall, datapath.ReasonDiscard, datapath.ReasonOOB,
	datapath.ReasonRcvlowat,
	datapath.ReasonInq, datapath.ReasonOption, datapath.ReasonLeaving,
}

// reasonsOf explains why not all bytes from peer were redirected: by the results of connections that never
// joined, by the lasting reasons, or, if there are neither, by the passing ones.
func reasonsOf(own, peer sent) (names []string) {
	for _, r := range datapath.Results() {
		// Both ends are on this node: if one stays out, the other does not find it, and takes the peer for a
		// remote one.
		if r != datapath.ResultJoined && r != datapath.ResultRemote &&
			own.results[r.String()]+peer.results[r.String()] > 0 {
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
