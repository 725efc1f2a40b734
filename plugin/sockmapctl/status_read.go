// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/world"
	"github.com/spf13/cobra"
)

func (a *app) status(cmd *cobra.Command, f *podFlags) (*statusView, error) {
	s := &statusView{Version: version.String(), Dir: a.dir, Checks: []checkView{}, Next: []string{}}
	d, err := datapath.Open(a.dir)
	if world.Unusable(err) {
		s.Problem, s.exitWith = err.Error(), err
		s.Pods = a.readPods(cmd.Context(), f)
		s.Checks = a.checks(err)
		s.Next = append(s.Next, wayOutOf(s.Checks))
		s.judge(a.parts(f.confDir))
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	s.Loaded = true
	if s.Node, err = a.readNode(cmd.Context(), d); err != nil {
		return nil, err
	}
	s.unloading = !s.Node.Enabled && d.Unloading()
	s.judge(a.parts(f.confDir))
	s.Pods = a.readPods(cmd.Context(), f)
	s.Next = s.Node.advice()
	if older := s.Pods.advice(); older != "" {
		s.Next = append(s.Next, older)
	}
	if news := available(cmd.Context(), a.node(datapath.Settings{})); news != "" {
		s.Next = append(s.Next, news)
	}
	return s, nil
}

func (a *app) readNode(ctx context.Context, d *datapath.Datapath) (*nodeView, error) {
	cfg, err := d.Config()
	if err != nil {
		return nil, err
	}
	v := &nodeView{
		Enabled: !cfg.Disabled, LoadedVersion: cfg.Version, LoadedAt: cfg.LoadedAt,
		Settings: settingsView{
			cfg.MaxSockets, cfg.MaxBacklogBytes, cfg.MaxBacklogMessages, cfg.NATRefreshSeconds,
			string(cfg.Coexist), string(cfg.Helpers),
		},
		Hazards: newHazardsView(cfg),
		Kernel:  kernelRelease(),
	}
	guards, err := d.GuardStates()
	if err != nil {
		return nil, err
	}
	v.Guards = guardViews(guards)
	if v.Switches, err = readSwitches(d); err != nil {
		return nil, err
	}
	n := a.node(datapath.Settings{})
	if v.Helpers, err = readHelpers(n, d); err != nil {
		return nil, err
	}
	attachments, err := n.Attachments(ctx)
	if err != nil {
		return nil, err
	}
	v.Attachments = countAttachments(attachments)
	links, err := n.Links(ctx)
	if err != nil {
		return nil, err
	}
	v.Cgroups = cgroupViews(links)
	if v.Draining, err = readDraining(a.dir); err != nil {
		return nil, err
	}
	if v.Others, err = readOthers(d); err != nil {
		return nil, err
	}
	if v.Neighbours, err = readNeighbours(n); err != nil {
		return nil, err
	}
	v.Coexist = coexistOf(cfg)
	events, err := d.Events()
	if err != nil {
		return nil, err
	}
	v.CallbacksLost = events[datapath.EventFlagsLost]
	if v.Now, err = readNow(d); err != nil {
		return nil, err
	}
	if v.Ever, err = readEver(d, v.Now); err != nil {
		return nil, err
	}
	return v, nil
}

func readSwitches(d *datapath.Datapath) ([]switchView, error) {
	views := []switchView{}
	all, err := d.Switches()
	for _, s := range all {
		views = append(views, switchView{string(s.Kind), s.Name, s.At})
	}
	return views, err
}

func readDraining(dir string) ([]drainView, error) {
	views := []drainView{}
	all, err := datapath.ListDraining(dir)
	for _, d := range all {
		views = append(views, drainView(d))
	}
	return views, err
}

// readOthers is sorted by name, and nil if this process lacks the privilege.
func readOthers(d *datapath.Datapath) ([]otherView, error) {
	all, err := d.Others()
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	counts := map[datapath.Other]int{}
	for _, o := range all {
		counts[o]++
	}
	views := []otherView{}
	for o, n := range counts {
		views = append(views, otherView{o.Name, o.Type, n})
	}
	slices.SortFunc(views, func(a, b otherView) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
	})
	return views, nil
}

func countAttachments(attachments []endpoint.Attachment) countsView {
	v := countsView{Reasons: []whyView{}}
	counts := map[whyView]uint64{}
	for _, r := range attachments {
		switch adopt.StateOf(r) {
		case adopt.Accelerated:
			v.Accelerated++
		case adopt.OptedOut:
			v.OptedOut++
		default:
			v.Declined++
		}
		if !r.Accelerated() {
			counts[whyView{Reason: r.WhyNot().String(), Words: world.WhyNot(r)}]++
		}
		if r.Dead != "" {
			v.Dead++
		}
	}
	for why, n := range counts {
		why.Count = n
		v.Reasons = append(v.Reasons, why)
	}
	slices.SortFunc(v.Reasons, func(a, b whyView) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Words, b.Words))
	})
	return v
}

func cgroupViews(links []endpoint.Link) []cgroupView {
	views := make([]cgroupView, 0, len(links))
	for _, l := range links {
		views = append(views, cgroupView{l.CgroupID, l.CgroupPath, l.Manual, l.Alive, l.Attachments})
	}
	slices.SortFunc(views, func(a, b cgroupView) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.ID, b.ID))
	})
	return views
}

func readNow(d *datapath.Datapath) (nowView, error) {
	var v nowView
	seen := map[datapath.EndKey]bool{}
	err := d.Flows(func(f datapath.Flow) bool {
		v.RedirectedBytes += f.RedirectedBytes
		v.RedirectedMessages += f.RedirectedMessages
		v.TCPBytes += f.TCPBytes
		v.TCPMessages += f.TCPMessages
		switch f.Now() {
		case datapath.ModeRedirect:
			v.Redirecting++
		case datapath.ModeTCP:
			v.OnTCP++
		case datapath.ModeLeft:
			v.Left++
			return true
		default:
			v.Pending++
		}
		v.Sockets++
		if !f.Joined {
			v.Waiting++
		}
		if seen[f.Key.Mirror()] {
			v.Flows++
		}
		seen[f.Key] = true
		return true
	})
	return v, err
}

func readEver(d *datapath.Datapath, now nowView) (everView, error) {
	totals, err := d.Totals()
	if err != nil {
		return everView{}, err
	}
	v := everView{
		RedirectedBytes: now.RedirectedBytes, RedirectedMessages: now.RedirectedMessages,
		TCPBytes: now.TCPBytes, TCPMessages: now.TCPMessages, Results: []resultView{},
	}
	fallbacks := map[string]uint64{}
	results := make([]resultView, len(datapath.Results()))
	for _, t := range totals {
		v.RedirectedBytes += t.RedirectedBytes
		v.RedirectedMessages += t.RedirectedMessages
		v.TCPBytes += t.TCPBytes
		v.TCPMessages += t.TCPMessages
		for i, result := range datapath.Results() {
			results[i].Result = result.String()
			results[i].Active += t.Flows[datapath.RoleActive][result]
			results[i].Passive += t.Flows[datapath.RolePassive][result]
		}
		for reason, n := range t.Fallbacks {
			if n > 0 {
				fallbacks[reason.String()] += n
			}
		}
	}
	for _, r := range results {
		if r.Active+r.Passive > 0 {
			v.Results = append(v.Results, r)
		}
	}
	v.Fallbacks = live.Ranked(fallbacks)
	return v, nil
}

// count adds up both ends.
func (v everView) count(result datapath.Result) (n uint64) {
	for _, r := range v.Results {
		if r.Result == result.String() {
			n += r.Active + r.Passive
		}
	}
	return n
}

// advice is the list of next steps, the most urgent first.
func (v *nodeView) advice() []string {
	next := []string{}
	if !v.Enabled {
		next = append(next, "all flows are on TCP; switch on with: sockmapctl enable")
	}
	if held := v.declinedAdvice(); held != "" {
		next = append(next, held)
	}
	gone := func(c cgroupView) bool { return !c.Alive }
	if v.Attachments.Dead > 0 || slices.ContainsFunc(v.Cgroups, gone) {
		next = append(next, "remove the leftovers of containers and cgroups that are gone with: "+
			"sockmapctl gc")
	}
	if uint64(v.Now.Sockets)*10 >= uint64(v.Settings.MaxSockets)*9 {
		next = append(next, "the sockhash is almost full: "+datapath.RaiseMaxSockets)
	}
	if refused := v.Ever.count(datapath.ResultError); refused > 0 && len(v.Others) > 0 {
		next = append(next, fmt.Sprintf("%d connections could not enter the sockhash: another program may "+
			"hold them in a map of its own, see others", refused))
	}
	if v.CallbacksLost > 0 {
		next = append(next, fmt.Sprintf("%d connections lost their callbacks to another sock_ops program, "+
			"see neighbours; attach behind it with: sockmapctl gc",
			v.CallbacksLost))
	}
	if nothing := v.nothingAttached(); nothing != "" {
		next = append(next, nothing)
	}
	return next
}
