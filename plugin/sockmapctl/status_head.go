// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// containers are the attachments that the plugin was called for, accelerated or not.
func (v countsView) containers() int { return v.Accelerated + v.OptedOut + v.Declined }

// accelerating is the number of containers that are accelerated now, of all.
func (v *nodeView) accelerating() string {
	accelerated := v.Attachments.Accelerated
	if !v.Enabled {
		accelerated = 0
	}
	byHand := 0
	for _, c := range v.Cgroups {
		if c.Manual && c.Alive {
			byHand++
		}
	}
	text := fmt.Sprintf("accelerating %d of %s", accelerated,
		term.Number(v.Attachments.containers(), "container", "containers"))
	if v.Attachments.containers() == 0 {
		text = "no container has been added"
	}
	if byHand > 0 {
		text += ", and " + term.Number(byHand, "cgroup", "cgroups") + " with sockmapctl attach"
	}
	return text
}

// declinedAdvice is about containers that are not accelerated now. It is empty if all of them have opted out.
func (v *nodeView) declinedAdvice() string {
	for _, r := range v.Attachments.Reasons {
		if r.Reason == decline.Hazards.String() {
			return fmt.Sprintf("%s on TCP, as they do not accept %s: see sockmapctl doctor; once "+
				"acceptHazards or the pod's annotation accepts them, the agent, or sockmapctl adopt --all, "+
				"accelerates them",
				term.Number(int(r.Count), "container is", "containers are"),
				strings.Join(v.Hazards.Open, ", "))
		}
	}
	if len(v.Hazards.Open) > 0 && v.Attachments.containers() == 0 {
		return v.Hazards.advice()
	}
	return ""
}

// nothingAttached is the advice for a node on which no program is attached.
func (v *nodeView) nothingAttached() string {
	attached := func(c cgroupView) bool { return c.Alive }
	switch {
	case slices.ContainsFunc(v.Cgroups, attached):
		return ""
	case v.Attachments.containers() > 0:
		return "no container is accelerated: the reasons are below attachments"
	case len(v.Cgroups) > 0:
		return "" // they are gone, which another line of the advice reports
	}
	return "nothing is attached: add a container with sockmap in its conflist, or: " +
		"sockmapctl attach --cgroup PATH"
}
