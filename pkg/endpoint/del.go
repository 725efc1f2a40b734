// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// Del removes what Add, OptOut or Decline made for an attachment, and nothing that other attachments share with it.
// It needs nothing of the sandbox to exist. An attachment without a record is not an error.
func (n *Node) Del(ctx context.Context, network, containerID, ifName string) error {
	key := datapath.NewAttachmentKey(network, containerID, ifName)
	if known, err := n.known(key); !known || err != nil {
		return err
	}
	s, err := n.change(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.end()
	if _, ok := s.records[key]; !ok {
		return nil
	}
	return s.remove(key)
}

// known looks a record up without the lock: whoever holds it must not delay the removal of containers that are none
// of ours. The record cannot be on its way, as runtimes do not call ADD and DEL of one container at once.
func (n *Node) known(key datapath.AttachmentKey) (bool, error) {
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

// Check tells whether all that Add made for the sandbox is still there: ErrIncomplete if not. A sandbox that was
// declined is as its record says. ErrNoRecord: it was never added, or unloaded since.
func (n *Node) Check(_ context.Context, sb Sandbox) error {
	d, err := datapath.Open(n.Dir)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	if err != nil {
		return err
	}
	defer d.Close()
	record, ok, err := d.Attachment(sb.key())
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: network %q, container %q, interface %q", ErrNoRecord, sb.Network, sb.ContainerID, sb.IfName)
	}
	if record.Declined != "" {
		return nil
	}
	if err := n.checkLink(d, record); err != nil {
		return err
	}
	return checkEndpoint(d, record, sb)
}

func (n *Node) checkLink(d *datapath.Datapath, record datapath.Attachment) error {
	alive, err := n.witness().alive(d, datapath.LinkKey{CgroupID: record.CgroupID})
	if err != nil {
		return err
	}
	if !alive {
		return fmt.Errorf("%w: cgroup %d is gone or has no link (add the container again)", ErrIncomplete, record.CgroupID)
	}
	return nil
}

func checkEndpoint(d *datapath.Datapath, record datapath.Attachment, sb Sandbox) error {
	id, err := netns.Identify(sb.NetNSPath)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	if id.Cookie != record.NetNSCookie {
		return fmt.Errorf("%w: network namespace %q has cookie %d, cookie %d was added (add the container again)",
			ErrIncomplete, sb.NetNSPath, id.Cookie, record.NetNSCookie)
	}
	// By its key: with as many endpoints as a node has, to list them takes thousands of system calls, and fails while they
	// come and go.
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
