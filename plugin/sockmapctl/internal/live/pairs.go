// SPDX-License-Identifier: Apache-2.0

package live

import (
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Pair is the two ends of a connection, or the one end that is in the sockhash.
type Pair struct {
	Client *Flow `json:"client" doc:"the end that called connect; null when it is not in the sockhash"`
	Server *Flow `json:"server" doc:"the end that accept returned; null when it is not in the sockhash"`
}

// Ends are those that are there, the client's first. There is always one.
func (p *Pair) Ends() []*Flow {
	switch {
	case p.Client == nil:
		return []*Flow{p.Server}
	case p.Server == nil:
		return []*Flow{p.Client}
	}
	return []*Flow{p.Client, p.Server}
}

// PairUp finds the other end of each by the mirror of its key, in the order of flows.
func PairUp(flows []Flow) []Pair {
	at := make(map[datapath.EndKey]int, len(flows))
	for i := range flows {
		at[flows[i].Key] = i
	}
	pairs := make([]Pair, 0, len(flows)/2+1)
	for i := range flows {
		f := &flows[i]
		j, there := at[f.Key.Mirror()]
		// Two ends of one role are no pair, even if their keys match.
		there = there && flows[j].Role != f.Role
		switch {
		case f.Role == datapath.RoleActive.String() && there:
			pairs = append(pairs, Pair{Client: f, Server: &flows[j]})
		case f.Role == datapath.RoleActive.String():
			pairs = append(pairs, Pair{Client: f})
		case !there:
			pairs = append(pairs, Pair{Server: f})
		}
	}
	return pairs
}
