// SPDX-License-Identifier: Apache-2.0

package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/explain"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
)

// World has the state that explanations are made from. If nothing is loaded, it only has the error.
type World struct {
	problem string
	d       *datapath.Datapath // nil when there is a problem
	config  datapath.Config
	flows   []live.Flow

	helperPorts []datapath.PortRange // that stay on TCP

	raw         map[datapath.EndKey]datapath.Flow
	shares      map[uint64]int
	attachments []endpoint.Attachment
	links       []endpoint.Link
	owners      live.Owners
}

// Read reads the state below dir, on node n.
func Read(ctx context.Context, dir string, n *endpoint.Node) (*World, error) {
	d, err := datapath.Open(dir)
	if Unusable(err) {
		return &World{problem: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	w := &World{d: d}
	if err := w.read(ctx, n); err != nil {
		d.Close()
		return nil, err
	}
	return w, nil
}

func (w *World) Close() {
	if w.d != nil {
		w.d.Close()
	}
}

func (w *World) read(ctx context.Context, n *endpoint.Node) (err error) {
	if w.config, err = w.d.Config(); err != nil {
		return err
	}
	if w.shares, err = w.d.SocketShares(); err != nil {
		return err
	}
	ports, ignored, err := w.d.HelperPorts()
	if err != nil {
		return err
	}
	if !ignored {
		w.helperPorts = ports
	}
	if w.attachments, err = n.Attachments(ctx); err != nil {
		return err
	}
	if w.links, err = n.Links(ctx); err != nil {
		return err
	}
	if w.owners, err = live.ReadOwners(w.d); err != nil {
		return err
	}
	listed, err := live.List(w.d)
	if err != nil {
		return err
	}
	w.flows = live.NewFlows(listed, w.owners)
	w.raw = make(map[datapath.EndKey]datapath.Flow, len(listed))
	for _, f := range listed {
		w.raw[f.Key] = f
	}
	return nil
}

// Find returns the live sockets from source to destination, the youngest first.
func (w *World) Find(source, destination Target) []*live.Flow {
	at := make(map[datapath.EndKey]*live.Flow, len(w.flows))
	for i := range w.flows {
		at[w.flows[i].Key] = &w.flows[i]
	}
	var found []*live.Flow
	for i := range w.flows {
		f := &w.flows[i]
		peer := at[f.Key.Mirror()]
		// Behind NAT the two ends see different addresses. Either may match.
		from := source.isLocal(f) || peer != nil && source.isRemote(peer)
		to := destination.isRemote(f) || peer != nil && destination.isLocal(peer)
		if from && to {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b *live.Flow) int {
		return cmp.Or(cmp.Compare(a.AgeSeconds, b.AgeSeconds), live.Compare(a, b))
	})
	return found
}

func (w *World) facts() *explain.Facts {
	open := hazard.Set(w.config.Hazards &^ w.config.Guarded).Severe()
	return &explain.Facts{
		Problem: w.problem, Config: w.config, Severe: open.Names(), Sockets: len(w.flows), Shares: w.shares,
		HelperPorts: w.helperPorts,
	}
}

// LiveFacts are the facts for the socket f.
func (w *World) LiveFacts(f *live.Flow) (*explain.Facts, error) {
	facts := w.facts()
	own := w.raw[f.Key]
	facts.Flow = &own
	facts.Passive = &facts.Receiver
	facts.Port = f.Remote.Port()
	if f.Role == datapath.RolePassive.String() {
		facts.Passive, facts.Port = &facts.Sender, f.Local.Port()
	}
	if peer, ok := w.raw[f.Key.Mirror()]; ok {
		facts.Peer = &peer
		if facts.Passive == &facts.Receiver {
			facts.Port = peer.Local.Port() // after DNAT
		}
	}
	var err error
	if facts.Sender, err = w.end(f.NetNSCookie, fmt.Sprintf("%s (%s)", f.Local, f.Labels[0])); err != nil {
		return nil, err
	}
	name := f.Remote.String()
	if f.Labels[1] != "" {
		name = fmt.Sprintf("%s (%s)", f.Remote, f.Labels[1])
	}
	if facts.Receiver, err = w.end(f.PeerNetNSCookie, name); err != nil {
		return nil, err
	}
	to := f.Remote
	if f.Role == datapath.RolePassive.String() {
		to = netip.AddrPort{}
	}
	return facts, w.avoided(facts, to)
}

// avoided finds the entry of the map avoid that keeps such a connection on TCP: for its server's port, or for
// the destination of its client.
func (w *World) avoided(f *explain.Facts, to netip.AddrPort) error {
	if w.d == nil || f.Passive == nil || f.Port == 0 {
		return nil
	}
	all, err := w.d.ListAvoided()
	if err != nil {
		return err
	}
	client := &f.Sender
	if f.Passive == client {
		client = &f.Receiver
	}
	for _, a := range all {
		port := !a.Destination.IsValid() && a.NetNSCookie == f.Passive.NetNS && a.Port == f.Port
		if a.NetNSCookie != 0 &&
			(port || a.NetNSCookie == client.NetNS && a.Destination == to && to.IsValid()) {
			f.Avoided = &a
		}
	}
	return nil
}

// end returns the known facts of a network namespace. Cookie 0 means that it is not known.
func (w *World) end(cookie uint64, name string) (explain.End, error) {
	e := explain.End{Name: name, NetNS: cookie, Linked: explain.NotKnown}
	if cookie == 0 || w.d == nil {
		return e, nil
	}
	e.Place = explain.PlaceHere
	r, ok, err := w.d.Endpoint(cookie)
	if err != nil {
		return e, err
	}
	if ok {
		e.Registered = &r
	}
	for _, attachment := range w.attachments {
		if attachment.NetNSCookie == cookie {
			w.fill(&e, attachment)
		}
	}
	return e, nil
}

// fill adds the facts of an attachment. Of several attachments of one namespace, an accelerated one counts.
func (w *World) fill(e *explain.End, r endpoint.Attachment) {
	if e.Recorded && e.Declined == "" {
		return
	}
	e.Recorded, e.Declined, e.Why = true, WhyNot(r), r.WhyNot()
	manual := slices.ContainsFunc(w.links, func(l endpoint.Link) bool {
		return l.Manual && l.Alive && l.CgroupPath != "" && within(r.CgroupPath, l.CgroupPath)
	})
	switch {
	case r.LinkAlive:
		e.Linked, e.Link = explain.Passed, "the cgroup of "+e.Name+" has its link"
	case manual:
		e.Linked, e.Link = explain.Passed, "the cgroup of "+e.Name+" is attached with sockmapctl attach"
	case r.CgroupID != 0:
		e.Linked, e.Link = explain.Decided, "its cgroup has no link any more"
	}
}

// within reports whether a cgroup is at or below another.
func within(path, above string) bool {
	return path == above || path != "" && strings.HasPrefix(path, strings.TrimSuffix(above, "/")+"/")
}

// isGuest reports whether a process is outside of all cgroups of the containers of a network namespace. A
// mesh's proxy that has entered the namespace is such a process: the link of these containers does not see
// its sockets. The result is false if the cgroups are not visible from here.
func (w *World) isGuest(pid int, cookie uint64) bool {
	path, ok := cgroupOfProcess(pid)
	return ok && !slices.ContainsFunc(w.attachments, func(r endpoint.Attachment) bool {
		return r.NetNSCookie == cookie && r.CgroupID != 0 &&
			(r.CgroupPath == "" || within(path, r.CgroupPath))
	})
}

func cgroupOfProcess(pid int) (path string, ok bool) {
	m, err := cgroup.FindMount()
	if err != nil {
		return "", false
	}
	name, err := cgroup.OfProcess(pid)
	if err != nil {
		return "", false
	}
	path = filepath.Join(m.Path, name)
	return path, within(path, m.Path)
}

// linkOfProcess records whether the cgroup of a process has a link. The process's sockets may have been
// created in another cgroup.
func (w *World) linkOfProcess(a *explain.End, pid int) {
	path, ok := cgroupOfProcess(pid)
	if !ok {
		return
	}
	for _, l := range w.links {
		if l.Alive && within(path, l.CgroupPath) && (l.Manual || a.Registered != nil) {
			a.Linked, a.Link = explain.Passed, "cgroup "+l.CgroupPath+" has a link"
			return
		}
	}
	a.Linked, a.Link = explain.Decided, "neither cgroup "+path+" nor one above it has a link"
}

// WhyNot is the attachment's reason in words. An attachment that was accelerated and no longer is has no
// recorded reason.
func WhyNot(r endpoint.Attachment) string {
	switch why := r.WhyNot(); {
	case r.Declined != "":
		return r.Declined
	case why == decline.LinkGone:
		return "its cgroup has no link any more"
	case why == decline.EndpointGone:
		return "its network namespace is not registered any more"
	case why == decline.SwitchedOff:
		return r.SwitchedBy + " was switched off with sockmapctl disable"
	case why == decline.OptedOutElsewhere:
		return "another attachment of its network namespace has opted out"
	}
	return ""
}

// Unusable reports whether err describes a state that status shows, rather than a failure to read it.
func Unusable(err error) bool {
	return errors.Is(err, datapath.ErrNotLoaded) || errors.Is(err, datapath.ErrForeignState)
}
