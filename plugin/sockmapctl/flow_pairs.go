// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath"

// pairView is one flow: the two ends of a connection, or the one that is there.
type pairView struct {
	Client *flowView `json:"client" doc:"the end that called connect; null when it is not in the sockhash"`
	Server *flowView `json:"server" doc:"the end that came out of accept; null when it is not in the sockhash"`
}

// ends are those that are there, the client's first. There is always one.
func (p *pairView) ends() []*flowView {
	switch {
	case p.Client == nil:
		return []*flowView{p.Server}
	case p.Server == nil:
		return []*flowView{p.Client}
	}
	return []*flowView{p.Client, p.Server}
}

// pairUp finds the other end of each by the mirror of its key, in the order of flows.
func pairUp(flows []flowView) []pairView {
	at := make(map[datapath.FlowKey]int, len(flows))
	for i := range flows {
		at[flows[i].key] = i
	}
	pairs := make([]pairView, 0, len(flows)/2+1)
	for i := range flows {
		f := &flows[i]
		j, there := at[f.key.Mirror()]
		// Two ends of one role are no pair, whatever their numbers say.
		there = there && flows[j].Role != f.Role
		switch {
		case f.Role == datapath.RoleActive.String() && there:
			pairs = append(pairs, pairView{Client: f, Server: &flows[j]})
		case f.Role == datapath.RoleActive.String():
			pairs = append(pairs, pairView{Client: f})
		case !there:
			pairs = append(pairs, pairView{Server: f})
		}
	}
	return pairs
}
