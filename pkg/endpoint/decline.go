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
	record, err := newRecord(sb)
	if err != nil {
		return err
	}
	record.ContainerCgroupID = n.containerCgroup(sb)
	s, err := n.change(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.end()
	record.Declined, record.Reason = reason, decline.OptedOut
	return s.keepOnTCP(sb, record)
}

// Withdraw takes acceleration from a sandbox that has it, and records why. Its live connections go on by TCP. It returns
// datapath.ErrNotLoaded where nothing is loaded.
func (n *Node) Withdraw(ctx context.Context, sb Sandbox, cause error) error {
	record, err := newRecord(sb)
	if err != nil {
		return err
	}
	s, err := n.change(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	record.Declined, record.Reason = cause.Error(), ReasonOf(cause)
	return s.keepOnTCP(sb, record)
}

// keepOnTCP registers a sandbox that no link is to take.
func (s *session) keepOnTCP(sb Sandbox, record datapath.Attachment) error {
	// Its cgroup keeps the link that an earlier Add made: without it no callback tells when the connections that are in the
	// sockhash end, and what they hold of other pods' shares would never be given back.
	earlier, ok, err := s.record(sb.key())
	if err != nil {
		return err
	}
	if sb.HostNetwork {
		record.NetNSCookie = earlier.NetNSCookie // 0 where nothing takes its sockets yet
	}
	if ok && earlier.NetNSCookie == record.NetNSCookie {
		record.CgroupID, record.CgroupSource = earlier.CgroupID, earlier.CgroupSource
	}
	record.Policy = &datapath.Policy{}
	return s.register(sb.key(), record, nil)
}

// Decline records the error that kept a sandbox from being accelerated, so that status can tell. It never loads:
// where nothing is loaded, nothing is recorded. It leaves alone what an earlier Add made for the same sandbox.
func (n *Node) Decline(ctx context.Context, sb Sandbox, cause error) error {
	record, err := newRecord(sb)
	if err != nil {
		return err
	}
	record.ContainerCgroupID = n.containerCgroup(sb)
	s, err := n.change(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.end()
	earlier, ok, err := s.record(sb.key())
	if err != nil {
		return err
	}
	if ok && earlier.Declined == "" && earlier.NetNSCookie == record.NetNSCookie {
		return nil
	}
	record.Declined, record.Reason = cause.Error(), ReasonOf(cause)
	// Unlike one that opted out: no endpoint, so that a link attached by hand may still take it.
	record.NetNSCookie = 0
	return s.register(sb.key(), record, nil)
}

// containerCgroup returns the id of the sandbox's own cgroup; 0 when there is none, or it cannot be found without changing
// anything.
func (n *Node) containerCgroup(sb Sandbox) uint64 {
	mount, err := n.mount()
	if err != nil {
		return 0
	}
	found, err := cgroup.Find(mount, cgroup.Request{PodUID: sb.PodUID, NetNS: sb.NetNSPath, ContainerID: sb.ContainerID})
	if err != nil || found.Root {
		return 0
	}
	return found.ID
}
