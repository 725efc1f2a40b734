// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

// OptOut registers a sandbox that must not be accelerated, and records the reason. Its endpoint keeps its
// sockets on TCP even if a link of a parent cgroup exists. OptOut never loads: if nothing is loaded, it
// records nothing. AttachCgroup can accelerate the sandbox later in that case.
func (n *Node) OptOut(ctx context.Context, sb Sandbox, reason string) error {
	attachment, err := newAttachment(sb)
	if err != nil {
		return err
	}
	attachment.ContainerCgroupID = n.containerCgroup(sb)
	attachment.Declined, attachment.Reason = reason, decline.OptedOut
	return n.ifLoaded(ctx, func(s *session) error { return s.registerOnTCP(sb, attachment) })
}

// Withdraw ends the acceleration of a sandbox and records the reason. Its live connections continue over TCP.
// It returns datapath.ErrNotLoaded if nothing is loaded.
func (n *Node) Withdraw(ctx context.Context, sb Sandbox, cause error) error {
	attachment, err := newAttachment(sb)
	if err != nil {
		return err
	}
	s, err := n.beginLoaded(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	attachment.Declined, attachment.Reason = cause.Error(), ReasonOf(cause)
	return s.registerOnTCP(sb, attachment)
}

// registerOnTCP registers a sandbox whose sockets stay on TCP.
func (s *session) registerOnTCP(sb Sandbox, attachment datapath.Attachment) error {
	// Keep the link that an earlier Add made for the cgroup. Without the link no callback reports that flows
	// in the sockhash have closed, and their shares would never be released.
	earlier, ok, err := s.attachment(sb.key())
	if err != nil {
		return err
	}
	if sb.HostNetwork && !ok && attachment.ContainerCgroupID == 0 {
		return nil // nothing accelerates its sockets, and nobody could find out when it has ended
	}
	if sb.HostNetwork {
		attachment.NetNSCookie = earlier.NetNSCookie // 0 if nothing accelerates its sockets yet
	}
	if ok && earlier.NetNSCookie == attachment.NetNSCookie {
		attachment.CgroupID, attachment.CgroupSource = earlier.CgroupID, earlier.CgroupSource
	}
	attachment.Policy = &datapath.Policy{}
	return s.register(sb.key(), attachment, nil)
}

// Decline records the error that kept a sandbox from being accelerated, for status. It never loads: if
// nothing is loaded, it records nothing. It does not touch an attachment that an earlier Add made for the
// same sandbox.
func (n *Node) Decline(ctx context.Context, sb Sandbox, cause error) error {
	attachment, err := newAttachment(sb)
	if err != nil {
		return err
	}
	attachment.ContainerCgroupID = n.containerCgroup(sb)
	attachment.Declined, attachment.Reason = cause.Error(), ReasonOf(cause)
	return n.ifLoaded(ctx, func(s *session) error { return s.registerDeclined(sb, attachment) })
}

// registerDeclined registers a sandbox that could not be accelerated.
func (s *session) registerDeclined(sb Sandbox, attachment datapath.Attachment) error {
	earlier, ok, err := s.attachment(sb.key())
	if err != nil {
		return err
	}
	if ok && earlier.Declined == "" && (sb.HostNetwork || earlier.NetNSCookie == attachment.NetNSCookie) {
		return nil
	}
	if sb.HostNetwork && attachment.ContainerCgroupID == 0 {
		return nil // nobody could find out when it has ended
	}
	// A declined sandbox has no endpoint, unlike one that opted out, so AttachCgroup can still accelerate it.
	attachment.NetNSCookie = 0
	return s.register(sb.key(), attachment, nil)
}

// containerCgroup returns the ID of the sandbox's own cgroup, or 0 if there is none or it cannot be found
// without changing anything.
func (n *Node) containerCgroup(sb Sandbox) uint64 {
	mount, err := n.findMount()
	if err != nil {
		return 0
	}
	found, err := cgroup.Find(mount, cgroup.Request{PodUID: sb.PodUID, NetNS: sb.NetNSPath,
		ContainerID: sb.ContainerID})
	if err != nil || found.Root {
		return 0
	}
	return found.ID
}
