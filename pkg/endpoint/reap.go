// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// Removed is one thing that was removed without a DEL of its runtime.
type Removed struct {
	Kind string `json:"kind"` // "attachment", "link" or "endpoint"
	Name string `json:"name"` // network/container/interface, name of the link's pin, netns cookie
	Why  string `json:"why"`
}

// ValidAttachment is an attachment of a network that its runtime still knows.
type ValidAttachment struct{ ContainerID, IfName string }

// reapTime bounds the time that an Add spends on attachments of other containers. Each Add checks those that
// follow its own in the map. Keys are distributed at random, so several Adds together check all attachments.
const reapTime = 100 * time.Microsecond

// reapMinimum attachments are checked in any case. On a small node that is all of them.
const reapMinimum = 8

// reapTimeWhenFull bounds the time that an Add spends on them when the map has no room for its own
// attachment.
const reapTimeWhenFull = 100 * time.Millisecond

// GC removes the attachments of a network that are not in valid. If valid is nil, the runtime did not list
// them, and GC removes only what is provably dead. It continues after errors and joins them. Without a name
// of a network it removes nothing and returns ErrNoNetwork.
func (n *Node) GC(ctx context.Context, network string, valid *[]ValidAttachment) ([]Removed, error) {
	if network == "" {
		return nil, ErrNoNetwork
	}
	return n.reapWith(ctx, func(s *session, w liveness) *reaper {
		r := newReaper(s, w, func(attachment datapath.Attachment) bool { return attachment.OfNetwork(network) })
		if valid != nil {
			r.valid = map[datapath.AttachmentKey]bool{}
			for _, ref := range *valid {
				r.valid[datapath.NewAttachmentKey(network, ref.ContainerID, ref.IfName)] = true
			}
		}
		return r
	})
}

// Reap removes what is provably dead, in all networks. It continues after errors and joins them.
func (n *Node) Reap(ctx context.Context) ([]Removed, error) {
	return n.reapWith(ctx, func(s *session, w liveness) *reaper { return newReaper(s, w, ofAllNetworks) })
}

func (n *Node) reapWith(ctx context.Context, with func(*session, liveness) *reaper) ([]Removed, error) {
	s, err := n.beginLoaded(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := with(s, n.newLiveness())
	if err := s.readAttachments(); err != nil {
		s.end()
		return nil, err
	}
	r.reapAttachments()
	r.reapOrphans()
	// A killed call of Switch may have left endpoints unchanged.
	r.errs = append(r.errs, r.rearmAll(), s.applyAllPolicies())
	s.end()
	return r.removed, errors.Join(append(r.errs, n.countShares())...)
}

// countShares visits each live socket, so it runs without the lock, for which containers would wait.
func (n *Node) countShares() error {
	d, err := datapath.Open(n.Dir)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil // unloaded meanwhile
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := d.CountShares(); err != nil && !errors.Is(err, datapath.ErrNotListed) {
		return fmt.Errorf("count the sockets of each pod: %w", err)
	}
	return nil
}

// reapSome is the part of reaping that an Add does, because some runtimes never call GC. It checks
// attachments of other containers for this long. It looks for orphaned links only if an earlier call has
// marked that there are some. Its errors are logged and do not fail the Add.
func (s *session) reapSome(own datapath.AttachmentKey, long time.Duration) []Removed {
	r := newReaper(s, s.newLiveness(), ofAllNetworks)
	r.except = own
	until, looked := time.Now().Add(long), 0
	err := s.d.AttachmentsAfter(own, func(key datapath.AttachmentKey, attachment datapath.Attachment) bool {
		r.reapIfDead(key, attachment)
		looked++
		return looked < reapMinimum || time.Now().Before(until)
	})
	if err != nil {
		r.errs = append(r.errs, err)
	}
	if s.d.Unswept() {
		r.reapOrphans()
	}
	for _, err := range r.errs {
		s.log().Warn("remove leftovers of other containers", "error", err)
	}
	return r.removed
}

// reaper is one round of reaping.
type reaper struct {
	*session
	liveness
	covers  func(datapath.Attachment) bool  // selects the attachments of this round
	valid   map[datapath.AttachmentKey]bool // those that the runtime listed; nil: it passed no list
	except  datapath.AttachmentKey
	removed []Removed
	errs    []error
}

func newReaper(s *session, w liveness, covers func(datapath.Attachment) bool) *reaper {
	return &reaper{session: s, liveness: w, covers: covers}
}

func ofAllNetworks(datapath.Attachment) bool { return true }

func (r *reaper) reapAttachments() {
	// Iterate over a copy, because remove changes the original.
	for key, attachment := range maps.Clone(r.attachments) {
		r.reapIfDead(key, attachment)
	}
}

// reapIfDead removes an attachment whose sandbox does not exist any more.
func (r *reaper) reapIfDead(key datapath.AttachmentKey, attachment datapath.Attachment) {
	if key == r.except || !r.covers(attachment) {
		return
	}
	why := r.whyRemove(key, attachment)
	if why == "" {
		return
	}
	name := fmt.Sprintf("%s/%s/%s", attachment.Network, attachment.ContainerID, attachment.IfName)
	r.addResult(Removed{"attachment", name, why}, r.remove(key))
}

func (r *reaper) whyRemove(key datapath.AttachmentKey, attachment datapath.Attachment) string {
	if r.valid == nil {
		return r.whyDead(attachment)
	}
	if r.valid[key] {
		return ""
	}
	return "the runtime does not know it"
}

func (r *reaper) addResult(done Removed, err error) {
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("remove %s %s: %w", done.Kind, done.Name, err))
		return
	}
	r.removed = append(r.removed, done)
}

// reapOrphans removes links and endpoints without an attachment, which killed calls leave.
func (r *reaper) reapOrphans() {
	before := len(r.errs)
	if err := r.readAttachments(); err != nil {
		r.errs = append(r.errs, err)
		return
	}
	r.reapOrphanLinks()
	r.reapOrphanEndpoints()
	if len(r.errs) > before {
		return
	}
	if err := r.d.ClearUnswept(); err != nil {
		r.errs = append(r.errs, err)
	}
}

func (r *reaper) reapOrphanLinks() {
	keys, err := r.d.LinkKeys()
	if err != nil {
		r.errs = append(r.errs, err)
		return
	}
	named := map[uint64]bool{}
	for _, attachment := range r.attachments {
		named[attachment.CgroupID] = true
	}
	for _, key := range keys {
		if why := r.whyOrphanLink(key, named); why != "" {
			r.addResult(Removed{"link", key.String(), why}, r.detach(key))
		}
	}
}

func (r *reaper) whyOrphanLink(key datapath.LinkKey, named map[uint64]bool) string {
	if !key.Manual && !named[key.CgroupID] {
		return "no attachment names it"
	}
	// A cgroup with an attachment is checked with the attachment.
	if key.Manual && r.cgroupGone(key.CgroupID) {
		return whyCgroupGone
	}
	return ""
}

func (r *reaper) detach(key datapath.LinkKey) error {
	if err := r.step("reap link"); err != nil {
		return err
	}
	return errors.Join(r.d.Detach(key), r.d.ClearCommon(datapath.CommonCgroup(key.CgroupID)))
}

func (r *reaper) reapOrphanEndpoints() {
	named := map[uint64]bool{}
	for _, attachment := range r.attachments {
		named[attachment.NetNSCookie] = true
	}
	endpoints, err := r.d.Endpoints()
	if err != nil {
		r.errs = append(r.errs, err)
	}
	for cookie := range endpoints {
		if !named[cookie] {
			r.addResult(Removed{"endpoint", fmt.Sprint(cookie), "no attachment names it"}, r.deleteEndpoint(cookie))
		}
	}
}

func (r *reaper) deleteEndpoint(cookie uint64) error {
	if err := r.step("reap endpoint"); err != nil {
		return err
	}
	return errors.Join(r.d.DeleteEndpoint(cookie), r.d.ClearCommon(datapath.CommonNetNS(cookie)))
}
