// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestStatusDescribesTheCurrentState(t *testing.T) {
	held := hazardsView{Open: []string{"splice"}}
	attached := []cgroupView{{Alive: true}}
	for _, tt := range []struct {
		name string
		node nodeView
		head string
		next []string // beginnings, after what is about the switch
	}{
		{"nothing so far", nodeView{Enabled: true}, "no container has been added", []string{"nothing is attached"}},
		{"nothing so far, with a hazard", nodeView{Enabled: true, Hazards: held}, "no container has been added",
			[]string{"containers are accelerated only if", "nothing is attached"}},
		{"sockmapctl attach", nodeView{Enabled: true, Cgroups: []cgroupView{{Alive: true, Manual: true}}},
			"no container has been added, and 1 cgroup with sockmapctl attach", nil},
		{"all declined", nodeView{
			Enabled: true, Hazards: held, Attachments: countsView{Declined: 2,
				Reasons: []whyView{{Reason: "hazards", Count: 2}}},
		}, "accelerating 0 of 2 containers", []string{"2 containers are on TCP, as they do not accept splice",
			"no container is accelerated"}},
		{"opted out", nodeView{
			Enabled: true, Hazards: held, Attachments: countsView{OptedOut: 1,
				Reasons: []whyView{{Reason: "opted-out", Count: 1}}},
		}, "accelerating 0 of 1 container",
			[]string{"no container is accelerated: the reasons are below attachments"}},
		{"all accelerated", nodeView{
			Enabled: true, Hazards: held, Attachments: countsView{Accelerated: 2}, Cgroups: attached,
		}, "accelerating 2 of 2 containers", nil},
		{"switched off", nodeView{Attachments: countsView{Accelerated: 2}, Cgroups: attached},
			"accelerating 0 of 2 containers",
			[]string{"all flows are on TCP"}},
	} {
		tt.node.Settings.MaxSockets = 100
		if got := tt.node.accelerating(); got != tt.head {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.head)
		}
		next := tt.node.advice()
		if len(next) != len(tt.next) {
			t.Errorf("%s: next %q", tt.name, next)
			continue
		}
		for i := range next {
			if !strings.HasPrefix(next[i], tt.next[i]) {
				t.Errorf("%s: next %q, want %q", tt.name, next[i], tt.next[i])
			}
		}
	}
}
