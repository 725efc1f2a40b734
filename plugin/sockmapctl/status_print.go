// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// statusLabel is the width of the labels of status.
const statusLabel = 12

func (a *app) printStatus(v *statusView) error {
	s := a.screen(statusLabel)
	if v.Loaded {
		s.node(v)
	} else {
		s.problem(v)
	}
	for i, next := range v.Next {
		label := "next"
		if i > 0 {
			label = ""
		}
		s.Line(label, "%s", next)
	}
	return s.Flush()
}

func (s *screen) problem(v *statusView) {
	state := "not loaded"
	for _, c := range v.Checks {
		if c.Name == "state" && !c.OK {
			state = "loaded by another version, or what is pinned is not sockmap's"
		}
	}
	if damaged := (*datapath.StateError)(nil); errors.As(v.exitWith, &damaged) && damaged.Damaged {
		state = "damaged: a part of what was loaded is gone"
	}
	s.Line("sockmap", "%s (%s; this is sockmapctl %s)", state, v.Dir, v.Version)
	for _, c := range v.Checks {
		mark := "ok"
		if !c.OK {
			mark = "NOT OK"
		}
		s.Line(c.Name, "%-6s  %s", mark, c.Detail)
	}
	s.pods(v.Pods)
}

func (s *screen) node(v *statusView) {
	n := v.Node
	state := "on"
	switch {
	case v.unloading:
		state = "OFF: an unload runs or was interrupted, all flows are on TCP (repeat it, or " +
			"undo it with: sockmapctl load)"
	case !n.Enabled:
		state = "OFF: disabled, all flows are on TCP"
	}
	s.Line("sockmap", "%s; %s; loaded %s ago, programs of %s", state, n.accelerating(),
		term.Age(time.Since(n.LoadedAt)), n.LoadedVersion)
	s.Line("", "%s, sockmapctl %s", v.Dir, v.Version)
	if why := v.heldOff(); why != "" {
		s.Line("accelerates", "%s", why)
	}
	s.Line("settings", "maxSockets %d, maxBacklogBytes %s, maxBacklogMessages %d",
		n.Settings.MaxSockets, term.Bytes(uint64(n.Settings.MaxBacklogBytes)), n.Settings.MaxBacklogMessages)
	s.Line("", "natRefreshSeconds %d, coexist %s, conntrackHelpers %s",
		n.Settings.NATRefreshSeconds, n.Settings.Coexist, n.Settings.ConntrackHelpers)
	s.switches(n.Switches)
	s.Line("kernel", "%s", n.Kernel)
	s.Line("hazards", "%s", n.Hazards)
	s.guards(n.Guards)
	s.Line("helpers", "%s", n.Helpers)
	s.pods(v.Pods)
	s.attachments(n.Attachments)
	s.cgroups(n.Cgroups)
	s.others(n.Others)
	s.neighbours(n.Neighbours, n.Coexist == coexistShare)
	for _, d := range n.Draining {
		s.Line("draining", "%s of older state (ABI %d)", term.Number(d.Sockets, "socket", "sockets"), d.ABI)
	}
	s.now(n.Now, n.Settings.MaxSockets)
	s.ever(n.Ever)
}

// switches lists what sockmapctl disable keeps on TCP.
func (s *screen) switches(all []switchView) {
	if len(all) == 0 {
		return
	}
	var names []string
	for _, v := range all {
		names = append(names, fmt.Sprintf("%s %s (%s ago)", v.Kind, v.Name, term.Age(time.Since(v.At))))
	}
	s.Line("disabled", "%s", strings.Join(names, ", "))
}

// guards omits guards that this kernel does not need; -o json has them.
func (s *screen) guards(all []guardView) {
	label := "guards"
	for _, g := range all {
		if g.needless {
			continue
		}
		s.Line(label, "%s %s", g.Name, g)
		label = ""
	}
}

func (s *screen) attachments(v countsView) {
	text := fmt.Sprintf("%d accelerated, %d opted out, %d declined", v.Accelerated, v.OptedOut, v.Declined)
	if v.Dead > 0 {
		text += fmt.Sprintf(", %d dead", v.Dead)
	}
	s.Line("attachments", "%s", text)
	for _, r := range v.Reasons {
		s.Line("", "%d × %s", r.Count, r.Words)
	}
}

func (s *screen) cgroups(all []cgroupView) {
	var alive, manual, gone int
	for _, c := range all {
		switch {
		case !c.Alive:
			gone++
		case c.Manual:
			manual++
		default:
			alive++
		}
	}
	s.Line("cgroups", "%d attached for containers, %d with sockmapctl attach, %d gone", alive, manual, gone)
	for _, c := range all {
		if c.Manual && c.Alive {
			s.Line("", "%s (id %d)", c.Path, c.ID)
		}
	}
}

// others are in one line, because only their names matter.
func (s *screen) others(all []otherView) {
	if all == nil {
		s.Line("others", "not known: seeing sock_ops and sk_msg programs, and sockmaps, of others needs "+
			"root (CAP_SYS_ADMIN)")
		return
	}
	if len(all) == 0 {
		s.Line("others", "no other sock_ops or sk_msg programs, and no other sockmaps, on this node")
		return
	}
	var names []string
	for _, o := range all {
		text := fmt.Sprintf("%s (%s", o.Name, o.Type)
		if o.Count > 1 {
			text += fmt.Sprintf(", %d of them", o.Count)
		}
		names = append(names, text+")")
	}
	s.Line("others", "%s", strings.Join(names, ", "))
}

func (s *screen) now(v nowView, room uint32) {
	text := fmt.Sprintf("%s; %s of %d", term.Number(v.Flows, "pair", "pairs"),
		term.Number(v.Sockets, "socket", "sockets"), room)
	if v.Sockets > 0 {
		text += fmt.Sprintf(": %d redirect, %d on TCP, %d have sent nothing yet", v.Redirecting, v.OnTCP,
			v.Pending)
	}
	if v.Left > 0 {
		text += fmt.Sprintf("; %d more have left the sockhash (plain TCP)", v.Left)
	}
	if v.Waiting > 0 {
		text += fmt.Sprintf("; %d without a peer yet", v.Waiting)
	}
	s.Line("now", "%s", text)
	if v.RedirectedBytes+v.TCPBytes > 0 {
		s.Line("", "%s", bytesShare(v.RedirectedBytes, v.TCPBytes))
	}
}

func bytesShare(redirected, tcp uint64) string {
	return fmt.Sprintf("%s redirected (%s), %s over TCP",
		term.Bytes(redirected), term.Share(redirected, redirected+tcp), term.Bytes(tcp))
}

// topReasons is the number of fallback reasons on one screen.
const topReasons = 3

func (s *screen) ever(v everView) {
	s.Line("ever", "%s", bytesShare(v.RedirectedBytes, v.TCPBytes))
	var results []string
	for _, r := range v.Results {
		if r.Result == datapath.ResultJoined.String() {
			// Both ends count it, so either number is complete.
			results = append(results, fmt.Sprintf("%d joined", max(r.Active, r.Passive)))
			continue
		}
		results = append(results, fmt.Sprintf("%s %d out %d in", r.Result, r.Active, r.Passive))
	}
	if len(results) > 0 {
		s.Line("", "connections: %s", strings.Join(results, ", "))
	}
	var reasons []string
	for _, r := range v.Fallbacks[:min(topReasons, len(v.Fallbacks))] {
		reasons = append(reasons, fmt.Sprintf("%s %d", r.Reason, r.Count))
	}
	if len(reasons) > 0 {
		s.Line("", "went to TCP: %s", strings.Join(reasons, ", "))
	}
}
