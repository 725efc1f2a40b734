// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

// OptOut registers a sandbox that is not to be accelerated, so that no link that covers its cgroup takes it, and
// records why. It never loads: where nothing is loaded, nothing can take the sandbox now, and nothing can be recorded. Who
// attaches a cgroup by hand later can take it then.
func (n *Node) OptOut(ctx context.Context, sb Sandbox, reason string) error {
	attachment, err := newAttachment(sb)
	if err != nil {
		return err
	}
	attachment.ContainerCgroupID = n.containerCgroup(sb)
	s, err := n.beginLoaded(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.end()
	attachment.Declined, attachment.Reason = reason, decline.OptedOut
	return s.registerOnTCP(sb, attachment)
}

// Withdraw takes acceleration from a sandbox that has it, and records why. Its live connections go on by TCP. It returns
// datapath.ErrNotLoaded where nothing is loaded.
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

// registerOnTCP registers a sandbox that no link is to take.
func (s *session) registerOnTCP(sb Sandbox, attachment datapath.Attachment) error {
	// Its cgroup keeps the link that an earlier Add made: without it no callback tells when the connections that are in the
	// sockhash end, and what they hold of other pods' shares would never be given back.
	earlier, ok, err := s.attachment(sb.key())
	if err != nil {
		return err
	}
	if sb.HostNetwork && !ok && attachment.ContainerCgroupID == 0 {
		return nil // nobody could tell when it has ended, and nothing takes its sockets
	}
	if sb.HostNetwork {
		attachment.NetNSCookie = earlier.NetNSCookie // 0 where nothing takes its sockets yet
	}
	if ok && earlier.NetNSCookie == attachment.NetNSCookie {
		attachment.CgroupID, attachment.CgroupSource = earlier.CgroupID, earlier.CgroupSource
	}
	attachment.Policy = &datapath.Policy{}
	return s.register(sb.key(), attachment, nil)
}

// Decline records the error that kept a sandbox from being accelerated, so that status can tell. It never loads:
// where nothing is loaded, nothing is recorded. It leaves alone what an earlier Add made for the same sandbox.
func (n *Node) Decline(ctx context.Context, sb Sandbox, cause error) error {
	attachment, err := newAttachment(sb)
	if err != nil {
		return err
	}
	attachment.ContainerCgroupID = n.containerCgroup(sb)
	s, err := n.beginLoaded(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.end()
	earlier, ok, err := s.attachment(sb.key())
	if err != nil {
		return err
	}
	if ok && earlier.Declined == "" && (sb.HostNetwork || earlier.NetNSCookie == attachment.NetNSCookie) {
		return nil
	}
	if sb.HostNetwork && attachment.ContainerCgroupID == 0 {
		return nil // nobody could tell when it has ended
	}
	attachment.Declined, attachment.Reason = cause.Error(), ReasonOf(cause)
	// Unlike one that opted out: no endpoint, so that a link attached by hand may still take it.
	attachment.NetNSCookie = 0
	return s.register(sb.key(), attachment, nil)
}

// containerCgroup returns the id of the sandbox's own cgroup; 0 when there is none, or it cannot be found without changing
// anything.
func (n *Node) containerCgroup(sb Sandbox) uint64 {
	mount, err := n.findMount()
	if err != nil {
		return 0
	}
	found, err := cgroup.Find(mount, cgroup.Request{PodUID: sb.PodUID, NetNS: sb.NetNSPath, ContainerID: sb.ContainerID})
	if err != nil || found.Root {
		return 0
	}
	return found.ID
}
