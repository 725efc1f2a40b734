// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
)

// partView is one of the parts of a node that acceleration needs.
type partView struct {
	Name   string `json:"name" doc:"programs, switch or hazards"`
	OK     bool   `json:"ok" doc:"the part does not prevent acceleration"`
	Reason string `json:"reason" doc:"why not, as METRICS.md names it; empty when ok"`
	Detail string `json:"detail" doc:"the reason in words; empty when ok"`
}

const confDirVariable = "SOCKMAP_CNI_CONF_DIR"

// confDir is the directory of the entries whose acceptHazards count.
func (a *app) confDir() string { return cmp.Or(a.getenv(confDirVariable), install.DefaultConfDir) }

// parts are the parts of the node for a container that accepts what an entry of this state accepts. Of the
// entries in confDir, the one that prevents the least counts.
func (a *app) parts(confDir string) []endpoint.Part {
	n := a.node(datapath.Settings{})
	best := n.Parts()
	for _, conf := range install.Entries(confDir) {
		if conf.BPFFSPath != a.dir {
			continue
		}
		if parts := n.Parts(conf.HazardsAccepted()...); len(failed(parts)) < len(failed(best)) {
			best = parts
		}
	}
	return best
}

func failed(parts []endpoint.Part) []endpoint.Part {
	return slices.DeleteFunc(slices.Clone(parts), func(p endpoint.Part) bool { return p.Err == nil })
}

func partViews(parts []endpoint.Part) []partView {
	views := make([]partView, 0, len(parts))
	for _, p := range parts {
		v := partView{Name: p.Name, OK: p.Err == nil}
		if p.Err != nil {
			v.Reason, v.Detail = endpoint.ReasonOf(p.Err).String(), p.Err.Error()
		}
		views = append(views, v)
	}
	return views
}

// judge decides whether anything is accelerated here, or would be. If hazards prevent it for containers that
// accept no more than the entries do, a container that accepts more by annotation, or a cgroup attached with
// sockmapctl attach, may still be accelerated.
func (v *statusView) judge(parts []endpoint.Part) {
	v.Parts = partViews(parts)
	wrong := failed(parts)
	held := slices.DeleteFunc(slices.Clone(wrong), func(p endpoint.Part) bool {
		var hazards *endpoint.HazardError
		return errors.As(p.Err, &hazards) && v.Node.acceleratesSome()
	})
	v.Accelerating = len(held) == 0
	if !v.Accelerating {
		v.exitWith = cmp.Or(v.exitWith, held[0].Err)
	}
}

func (n *nodeView) acceleratesSome() bool {
	byHand := func(c cgroupView) bool { return c.Manual && c.Alive }
	return n != nil && (n.Attachments.Accelerated > 0 || slices.ContainsFunc(n.Cgroups, byHand))
}

// heldOff is one line for a screen. It is empty if containers are accelerated, and if only the kill switch
// prevents it, which has another line.
func (v *statusView) heldOff() string {
	var why []string
	for _, p := range v.Parts {
		if !p.OK && p.Reason != decline.Disabled.String() {
			why = append(why, fmt.Sprintf("%s: %s", p.Name, p.Detail))
		}
	}
	if v.Accelerating || len(why) == 0 {
		return ""
	}
	return "NOTHING: " + strings.Join(why, "; ")
}
