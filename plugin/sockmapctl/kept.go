// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
)

// keptHazards are the hazards of a socket in the sockhash, whether its bytes are redirected or use TCP. A
// socket that cannot be evicted stays there until its connection ends: removing it would lose bytes that its
// reader has not read yet.
var keptHazards = hazard.SetOf("splice", "fionread-redirected", "fionread-tcp", "eagain")

// keptView describes live connections that a switch to TCP could not make plain TCP.
type keptView struct {
	sockets   int
	elsewhere int // of them, in states that drain: nobody evicts those
	stay      map[datapath.Stay]int
	why       error // that nothing can be evicted here; nil: it can
	hazards   hazard.Set
	known     bool // what this kernel's hazards are; else hazards are those that it may have
}

// readKept may be called before or after the switch is turned. An unload also removes the guards.
func (a *app) readKept(unload bool) keptView {
	v := keptView{hazards: keptHazards}
	all, err := datapath.ListDraining(a.dir)
	if err == nil {
		for _, each := range all {
			v.elsewhere += each.Sockets
		}
		v.sockets = v.elsewhere
	}
	d, err := datapath.Open(a.dir)
	if err != nil {
		v.sockets = max(v.sockets, 1) // nobody can count them
		return v
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		v.sockets = max(v.sockets, 1)
		return v
	}
	v.known = true
	present := hazard.Set(cfg.Hazards)
	if !unload {
		present &^= hazard.Set(cfg.Guarded)
	}
	v.hazards = present & keptHazards
	n, err := d.CountSockets()
	if v.sockets += n; err != nil {
		v.sockets = max(v.sockets, 1)
	}
	return v
}

// lines are for people. There are none if no connection is kept.
func (v keptView) lines() []string {
	if v.sockets == 0 {
		return nil
	}
	lines := stayText(v.stay)
	if v.elsewhere > 0 {
		lines = append(lines,
			fmt.Sprintf("sockets of states that drain stay there until their connections end: %d",
				v.elsewhere))
	}
	if v.why != nil {
		lines = append(lines,
			fmt.Sprintf("live connections cannot be taken out of the sockhash here: %v", v.why))
	}
	if v.hazards == 0 {
		return lines
	}
	var what []string
	for _, h := range hazard.Table {
		if hazard.SetOf(h.Name)&v.hazards != 0 {
			what = append(what, fmt.Sprintf("%s (%s)", h.Name, h.Meaning))
		}
	}
	verb := "differ"
	if !v.known {
		verb = "may differ"
	}
	return append(lines,
		fmt.Sprintf("their connections %s from plain TCP until they are closed: %s", verb,
			strings.Join(what, "; ")),
		"restart the containers that cannot tolerate that",
	)
}
