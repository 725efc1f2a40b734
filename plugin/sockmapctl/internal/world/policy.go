// SPDX-License-Identifier: Apache-2.0

package world

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/explain"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
)

// PolicyFacts are the facts for a connection that does not exist yet.
func (w *World) PolicyFacts(source, destination Target) (*explain.Facts, error) {
	f := w.facts()
	f.Passive, f.Port = &f.Receiver, destination.port
	var err error
	if f.Sender, err = w.resolve(source, nil); err != nil {
		return nil, err
	}
	if f.Receiver, err = w.resolve(destination, &f.Sender); err != nil {
		return nil, err
	}
	return f, w.avoided(f, netip.AddrPortFrom(destination.addr, destination.port))
}

// resolve finds the end that a target names. A loopback address is in the namespace of the other end.
func (w *World) resolve(t Target, from *explain.End) (explain.End, error) {
	switch {
	case w.problem != "":
		return explain.End{Name: t.text, Linked: explain.NotKnown}, nil
	case !t.addr.IsValid():
		return w.resolvePod(t)
	case t.addr.IsLoopback() && from == nil:
		return explain.End{}, fmt.Errorf("%s is in every network namespace, and no live flow has it: name "+
			"the pod, as NAMESPACE/POD", t.addr)
	case t.addr.IsLoopback():
		e := *from
		e.Name = t.text
		return e, nil
	}
	for _, r := range w.attachments {
		addrs, cookie, err := addressesOf(r)
		if err != nil {
			return explain.End{}, err
		}
		if slices.Contains(addrs, t.addr) {
			name := fmt.Sprintf("%s (%s)", t.text, attachmentName(r))
			return w.recorded(r, cookie, name)
		}
	}
	return explain.End{Name: t.text, Linked: explain.NotKnown}, nil
}

func attachmentName(r endpoint.Attachment) string {
	if r.PodName != "" {
		return live.PodName(r.PodNamespace, r.PodName)
	}
	return live.ShortID(r.ContainerID)
}

func (w *World) resolvePod(t Target) (explain.End, error) {
	// An attachment that is accelerated, or at least alive, wins over a dead one of the same name.
	best := -1
	rank := func(r endpoint.Attachment) int {
		switch {
		case r.Accelerated() && r.Dead == "":
			return 2
		case r.Dead == "":
			return 1
		}
		return 0
	}
	for i, r := range w.attachments {
		if r.PodNamespace == t.namespace && r.PodName == t.pod &&
			(best < 0 || rank(r) > rank(w.attachments[best])) {
			best = i
		}
	}
	if best < 0 {
		return explain.End{}, fmt.Errorf("no pod %s/%s is recorded on this node "+
			"(see: sockmapctl attachments)", t.namespace, t.pod)
	}
	r := w.attachments[best]
	_, cookie, err := addressesOf(r)
	if err != nil {
		return explain.End{}, err
	}
	return w.recorded(r, cookie, t.text)
}

// recorded is the end of one attachment. A declined one has no netns cookie in the map, so it is read from
// its namespace.
func (w *World) recorded(r endpoint.Attachment, cookie uint64, name string) (explain.End, error) {
	if r.NetNSCookie != 0 {
		cookie = r.NetNSCookie
	}
	e, err := w.end(cookie, name)
	e.Place = explain.PlaceHere
	w.fill(&e, r)
	if r.Dead != "" {
		e.Linked, e.Link = explain.Decided, "it is gone: "+r.Dead
	}
	return e, err
}

// addressesOf reads the addresses in the network namespace of a container. A container that is gone has none.
func addressesOf(r endpoint.Attachment) (addrs []netip.Addr, cookie uint64, err error) {
	dev, inode, err := netns.Stat(r.NetNSPath)
	if err != nil || dev != r.NetNSDev || inode != r.NetNSInode {
		return nil, 0, nil
	}
	id, err := netns.Identify(r.NetNSPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	ns, err := vns.GetFromPath(r.NetNSPath)
	if err != nil {
		return nil, 0, nil
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, 0, fmt.Errorf("ask for addresses in %s: %w", r.NetNSPath, err)
	}
	defer h.Close()
	list, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, 0, fmt.Errorf("list addresses in %s: %w", r.NetNSPath, err)
	}
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.Unmap().IsLoopback() {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, id.Cookie, nil
}

// SocketFacts are the facts for a socket of a process: of the flow if it is in the sockhash, otherwise why it
// is not there.
func (w *World) SocketFacts(s *explain.Socket, pid int) (*explain.Facts, error) {
	for i := range w.flows {
		f := &w.flows[i]
		// A pod with hostNetwork has another key than the host's netns cookie.
		mine := f.NetNSCookie == s.NetNSCookie || datapath.IsHostKey(f.NetNSCookie)
		if mine && f.Local == s.Local && f.Remote == s.Remote {
			facts, err := w.LiveFacts(f)
			if err == nil {
				facts.Socket = s
			}
			return facts, err
		}
	}
	facts := w.facts()
	facts.Socket = s
	var err error
	name := s.Local.String()
	if label := w.owners.Label(s.NetNSCookie); label != "" {
		name = fmt.Sprintf("%s (%s)", s.Local, label)
	}
	if facts.Sender, err = w.end(s.NetNSCookie, name); err != nil {
		return nil, err
	}
	if w.problem == "" && (facts.Sender.Linked == explain.NotKnown || w.isGuest(pid, s.NetNSCookie)) {
		w.linkOfProcess(&facts.Sender, pid)
	}
	facts.Receiver, err = w.resolve(Target{text: s.Remote.String(), addr: s.Remote.Addr(),
		port: s.Remote.Port()}, &facts.Sender)
	if err != nil {
		return nil, err
	}
	return facts, nil
}
