// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// Del removes what Add, OptOut or Decline made for an attachment, but nothing that other attachments share
// with it. The sandbox need not exist any more. If the attachment does not exist, Del does nothing and
// returns nil.
func (n *Node) Del(ctx context.Context, network, containerID, ifName string) error {
	key := datapath.NewAttachmentKey(network, containerID, ifName)
	if known, err := n.hasAttachment(key); !known || err != nil {
		return err
	}
	return n.ifLoaded(ctx, func(s *session) error {
		if _, ok, err := s.attachment(key); !ok || err != nil {
			return err
		}
		return s.remove(key)
	})
}

// hasAttachment looks for an attachment without taking the lock, so that the holder of the lock does not
// delay the removal of containers that sockmap does not know. An ADD of the same container cannot run at the
// same time: runtimes do not call ADD and DEL of one container at once.
func (n *Node) hasAttachment(key datapath.AttachmentKey) (bool, error) {
	d, err := datapath.Open(n.Dir)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	_, ok, err := d.Attachment(key)
	return ok, err
}

// Check returns ErrIncomplete if anything that Add made for the sandbox is missing, and ErrNotAdded if the
// sandbox was never added or sockmap was unloaded since. It returns nil for a sandbox that was declined.
func (n *Node) Check(_ context.Context, sb Sandbox) error {
	d, err := datapath.Open(n.Dir)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return fmt.Errorf("%w: %w", ErrNotAdded, err)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	attachment, ok, err := d.Attachment(sb.key())
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: network %q, container %q, interface %q", ErrNotAdded, sb.Network, sb.ContainerID,
			sb.IfName)
	}
	if attachment.Declined != "" {
		return nil
	}
	if err := n.checkLink(d, attachment); err != nil {
		return err
	}
	return checkEndpoint(d, attachment, sb)
}

func (n *Node) checkLink(d *datapath.Datapath, attachment datapath.Attachment) error {
	alive, err := n.newLiveness().linkAlive(d, datapath.LinkKey{CgroupID: attachment.CgroupID})
	if err != nil {
		return err
	}
	if !alive {
		return fmt.Errorf("%w: cgroup %d is gone or has no link (add the container again)", ErrIncomplete,
			attachment.CgroupID)
	}
	return nil
}

func checkEndpoint(d *datapath.Datapath, attachment datapath.Attachment, sb Sandbox) error {
	id, err := netns.Identify(sb.NetNSPath)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	if id.Cookie != attachment.NetNSCookie {
		return fmt.Errorf("%w: network namespace %q has cookie %d, cookie %d was added (add the container again)",
			ErrIncomplete, sb.NetNSPath, id.Cookie, attachment.NetNSCookie)
	}
	// Look up the one key. Listing the endpoints of a full node takes thousands of system calls, and fails if
	// endpoints are added and removed meanwhile.
	_, ok, err := d.Endpoint(id.Cookie)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: network namespace cookie %d is not registered (add the container again)",
			ErrIncomplete, id.Cookie)
	}
	return nil
}
