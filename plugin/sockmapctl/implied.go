// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// impliedView is a fault that comes with every accepted hazard. No probe looks for it, because every kernel
// has it, and the guard that keeps such programs on TCP does not run here.
type impliedView struct {
	Name    string `json:"name" doc:"what the program does"`
	Guard   string `json:"guard" doc:"the guard that would keep such a connection on TCP, and does not run"`
	Meaning string `json:"meaning" doc:"what the program sees on an accelerated connection"`
}

// implied are all of them.
var implied = []impliedView{
	{"MSG_WAITALL", datapath.GuardObserve,
		"recv returns what is there: a program that relies on the flag loses its place in the stream"},
	{"MSG_OOB", datapath.GuardObserve, "the urgent byte arrives in line, and nothing announces it"},
	{"MSG_TRUNC", datapath.GuardObserve, "recv copies the bytes instead of discarding them"},
}

// impliedBy lists the faults that come with every accepted hazard if these guards run.
func impliedBy(states []datapath.GuardState) []impliedView {
	runs := map[string]bool{}
	for _, s := range states {
		runs[s.Name] = s.Active
	}
	views := []impliedView{}
	for _, v := range implied {
		if !runs[v.Guard] {
			views = append(views, v)
		}
	}
	return views
}
