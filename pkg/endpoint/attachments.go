// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"cmp"
	"context"
	"slices"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

// Attachment is one attachment together with its current state: its cgroup, link and endpoint.
type Attachment struct {
	datapath.Attachment
	CgroupPath string // empty: there is no link of its own, or the cgroup is gone
	LinkAlive  bool
	Registered bool   // its network namespace has an endpoint
	Enabled    bool   // the endpoint is not opted out
	SwitchedBy string // the switch that keeps it on TCP, in words; empty: none
	Dead       string // why Reap would remove it; empty: Reap would not
}

// Accelerated reports whether the link and the endpoint are in place and enabled. It does not look at the
// kill switch.
func (r Attachment) Accelerated() bool {
	return r.Declined == "" && r.LinkAlive && r.Registered && r.Enabled
}

// WhyNot returns why the attachment is not accelerated now, or None if it is. Unlike the field Reason, which
// the ADD recorded, it includes what has changed since.
func (r Attachment) WhyNot() decline.Reason {
	switch {
	case r.Accelerated():
		return decline.None
	case r.Declined != "":
		return cmp.Or(r.Reason, decline.Unrecorded)
	case !r.LinkAlive:
		return decline.LinkGone
	case !r.Registered:
		return decline.EndpointGone
	case r.SwitchedBy != "":
		return decline.SwitchedOff
	}
	return decline.OptedOutElsewhere
}

// Link is one link of a cgroup together with its current state.
type Link struct {
	datapath.Link
	CgroupPath  string // empty: the cgroup is gone
	Attachments int    // number of attachments that use the link
}

// Attachments lists all attachments, sorted by their keys. It takes no lock, so an attachment that is being
// added or removed may be incomplete. It returns datapath.ErrNotLoaded if nothing is loaded.
func (n *Node) Attachments(_ context.Context) ([]Attachment, error) {
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	attachments, err := n.AttachmentsOf(d)
	if err != nil {
		return nil, err
	}
	w := n.newLiveness()
	for i := range attachments {
		r := &attachments[i]
		r.Dead = w.whyDead(r.Attachment)
		if r.CgroupID != 0 {
			r.CgroupPath = w.cgroupPath(r.CgroupID)
		}
	}
	slices.SortFunc(attachments, func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.ContainerID, b.ContainerID),
			cmp.Compare(a.IfName, b.IfName))
	})
	return attachments, nil
}

// AttachmentsOf lists all attachments, unsorted and without CgroupPath and Dead, which cost more than the
// other fields. The caller closes d.
func (n *Node) AttachmentsOf(d *datapath.Datapath) ([]Attachment, error) {
	recorded, err := d.Attachments()
	if err != nil {
		return nil, err
	}
	endpoints, err := d.Endpoints()
	if err != nil {
		return nil, err
	}
	switches, err := d.Switches()
	if err != nil {
		return nil, err
	}
	w := n.newLiveness()
	attachments := make([]Attachment, 0, len(recorded))
	for _, a := range recorded {
		r := Attachment{Attachment: a}
		if sw, off := SwitchOf(switches, a); off {
			r.SwitchedBy = sw.String()
		}
		r.Enabled, r.Registered = endpoints[a.NetNSCookie]
		if a.CgroupID != 0 {
			if r.LinkAlive, err = w.linkAlive(d, datapath.LinkKey{CgroupID: a.CgroupID}); err != nil {
				return nil, err
			}
		}
		attachments = append(attachments, r)
	}
	return attachments, nil
}

// Links lists all links, including those of AttachCgroup. It takes no lock, like Attachments.
func (n *Node) Links(_ context.Context) ([]Link, error) {
	d, err := datapath.Open(n.Dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	pinned, err := d.Links()
	if err != nil {
		return nil, err
	}
	attachments, err := d.Attachments()
	if err != nil {
		return nil, err
	}
	w := n.newLiveness()
	links := make([]Link, 0, len(pinned))
	for _, p := range pinned {
		l := Link{Link: p, CgroupPath: w.cgroupPath(p.CgroupID)}
		l.Alive = l.Alive && !w.cgroupGone(p.CgroupID)
		for _, a := range attachments {
			if !p.Manual && a.CgroupID == p.CgroupID {
				l.Attachments++
			}
		}
		links = append(links, l)
	}
	return links, nil
}

func (w liveness) cgroupPath(cgroupID uint64) string {
	if w.noMount != nil {
		return ""
	}
	path, err := cgroup.PathOf(w.mount, cgroupID)
	if err != nil {
		return ""
	}
	return path
}
