// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// helpersView has the conntrack helpers of this node.
type helpersView struct {
	Ignored bool         `json:"ignored" doc:"conntrackHelpers is ignore: the ports of helpers are accelerated like other ports"`
	Ports   []string     `json:"ports" doc:"ports of helpers, as the programs use them"`
	Stale   bool         `json:"stale" doc:"the helpers of the kernel have changed; the next ADD, or the agent, updates the ports"`
	Found   []helperView `json:"found" doc:"helpers that are loaded, built in or assumed"`
}

type helperView struct {
	Name    string   `json:"name" doc:"name of the protocol"`
	Modules []string `json:"modules" doc:"kernel modules of the helper; empty when the helper is assumed"`
	Ports   []string `json:"ports" doc:"TCP ports that the helper reads"`
	Assumed string   `json:"assumed" doc:"why the helper, or its ports, are assumed; empty when they were read from the kernel"`
}

func readHelpers(n *endpoint.Node, d *datapath.Datapath) (helpersView, error) {
	v := helpersView{Ports: []string{}, Found: []helperView{}}
	inForce, ignored, err := d.HelperPorts()
	if err != nil {
		return v, err
	}
	found, ports := n.Helpers()
	v.Ignored, v.Ports, v.Stale = ignored, portTexts(inForce), !slices.Equal(ports, inForce)
	for _, h := range found {
		one := helperView{h.Name, append([]string{}, h.Modules...), nil, h.Assumed}
		for _, p := range h.Ports {
			one.Ports = append(one.Ports, fmt.Sprint(p))
		}
		v.Found = append(v.Found, one)
	}
	return v, nil
}

func portTexts(ranges []datapath.PortRange) []string {
	texts := make([]string, 0, len(ranges))
	for _, r := range ranges {
		texts = append(texts, r.String())
	}
	return texts
}

// String is one line of a screen.
func (v helpersView) String() string {
	if len(v.Found)+len(v.Ports) == 0 {
		return "no conntrack helper reads TCP on this node"
	}
	text := "no port stays on TCP for"
	switch {
	case v.Ignored:
		text = "IGNORED by configuration:"
	case len(v.Ports) > 0:
		text = fmt.Sprintf("ports %s stay on TCP for", strings.Join(v.Ports, ", "))
	}
	for i, h := range v.Found {
		if i > 0 {
			text += ","
		}
		text += " " + h.String()
	}
	if len(v.Found) == 0 {
		text += " helpers that are gone"
	}
	if v.Stale {
		text += "; that is from before, and the next ADD or the agent changes it"
	}
	return text
}

func (h helperView) String() string {
	why := strings.Join(h.Modules, ", ")
	switch {
	case why == "":
		why = h.Assumed
	case h.Assumed != "":
		why += "; " + h.Assumed
	}
	return fmt.Sprintf("%s %s (%s)", h.Name, strings.Join(h.Ports, "+"), why)
}
