// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
)

// AttachmentKey names one CNI attachment: network, container and interface, none of which has a bounded
// length.
type AttachmentKey [bpf.SockmapAbiATTACHMENT_KEY]byte

// NewAttachmentKey hashes the three names. None of them may contain a NUL, which CNI does not allow either.
func NewAttachmentKey(network, containerID, ifName string) AttachmentKey {
	return sha256.Sum256([]byte(network + "\x00" + containerID + "\x00" + ifName))
}

// Attachment describes one CNI ADD: what it made, or why it made nothing. Texts that are longer than their
// field are cut; a path that is too long is left out.
type Attachment struct {
	Network, ContainerID, IfName string
	PodNamespace, PodName        string
	NetNSCookie                  uint64 // 0: no endpoint
	NetNSPath                    string
	NetNSDev, NetNSInode         uint64
	MountNS                      uint64 // inode of the mount namespace in which NetNSPath was seen
	CgroupID                     uint64 // 0: no link
	CgroupSource                 string
	HostNetNSCookie              uint64         // of a host pod, whose NetNSCookie is a HostKey; 0: none
	ContainerCgroupID            uint64         // declined: of the container, which has no link; 0: unknown
	Declined                     string         // why it is not accelerated, in words; empty: it is accelerated
	Reason                       decline.Reason // the same as a number; None where ABI 1 has recorded it
	Created                      time.Time      // for people; PutAttachment sets it in a new attachment

	// Policy is what this ADD asked for. The policy of the endpoint follows from all its attachments. nil:
	// there is no endpoint, or ABI 1 added it, which did not keep policies.
	Policy *Policy

	networkKey [bpf.SockmapAbiATTACHMENT_KEY]byte
	createdNs  uint64 // CLOCK_BOOTTIME, which nobody sets; 0 in a new attachment
}

// OfNetwork reports whether the attachment belongs to the network of this name, however long.
func (a Attachment) OfNetwork(name string) bool {
	return a.networkKey == sha256.Sum256([]byte(name))
}

// Since sets the time of creation to that of an earlier attachment of the same sandbox.
func (a *Attachment) Since(earlier Attachment) {
	a.createdNs, a.Created = earlier.createdNs, earlier.Created
}

func (a Attachment) encode() bpf.SockmapAttachment {
	out := bpf.SockmapAttachment{
		NetnsCookie: a.NetNSCookie, NetnsDev: a.NetNSDev, NetnsInode: a.NetNSInode, MountNs: a.MountNS,
		CgroupId: a.CgroupID, CreatedNs: a.createdNs, NetworkKey: a.networkKey, Reason: uint32(a.Reason),
	}
	// An attachment that was read and is written back keeps the hash of the whole name, although the name was
	// cut.
	if (a.networkKey == AttachmentKey{}) {
		out.NetworkKey = sha256.Sum256([]byte(a.Network))
	}
	if a.createdNs == 0 {
		out.CreatedNs = bootTime()
	}
	setText(out.Network[:], a.Network)
	setText(out.ContainerId[:], a.ContainerID)
	setText(out.Ifname[:], a.IfName)
	setText(out.PodNamespace[:], a.PodNamespace)
	setText(out.PodName[:], a.PodName)
	// The only text that is acted on: cut, it would name something else.
	if len(a.NetNSPath) < len(out.NetnsPath) {
		setText(out.NetnsPath[:], a.NetNSPath)
	}
	setText(out.CgroupSource[:], a.CgroupSource)
	setText(out.Declined[:], a.Declined)
	out.ContainerCgroup, out.HostNetns = a.ContainerCgroupID, a.HostNetNSCookie
	if a.Policy != nil {
		out.HasPolicy = 1
		out.Policy, _ = a.Policy.encode(a.NetNSCookie) // PutAttachment has checked it
	}
	return out
}

// MaxCgroupSource is how many bytes of Attachment.CgroupSource are kept. Longer text is cut.
const MaxCgroupSource = len(bpf.SockmapAttachment{}.CgroupSource) - 1

func decodeAttachment(a *bpf.SockmapAttachment) Attachment {
	out := Attachment{
		Network: text(a.Network[:]), ContainerID: text(a.ContainerId[:]), IfName: text(a.Ifname[:]),
		PodNamespace: text(a.PodNamespace[:]), PodName: text(a.PodName[:]),
		NetNSCookie: a.NetnsCookie, NetNSPath: text(a.NetnsPath[:]), NetNSDev: a.NetnsDev, NetNSInode: a.NetnsInode,
		MountNS: a.MountNs, CgroupID: a.CgroupId, CgroupSource: text(a.CgroupSource[:]),
		Declined: text(a.Declined[:]), Reason: decline.Reason(a.Reason), Created: sinceBoot(a.CreatedNs),
		networkKey: a.NetworkKey, createdNs: a.CreatedNs, ContainerCgroupID: a.ContainerCgroup,
		HostNetNSCookie: a.HostNetns,
	}
	if a.HasPolicy != 0 {
		policy := decodePolicy(&a.Policy)
		out.Policy = &policy
	}
	return out
}

func (d *Datapath) attachments() (*ebpf.Map, error) {
	return d.mapOf(bpf.SockmapMapAttachments, unsafe.Sizeof(bpf.SockmapAttachment{}))
}

// PutAttachment writes an attachment, over an older one with the same key.
func (d *Datapath) PutAttachment(key AttachmentKey, a Attachment) error {
	m, err := d.attachments()
	if err != nil {
		return err
	}
	if a.Policy != nil {
		if err := a.Policy.check(); err != nil {
			return err
		}
	}
	encoded := a.encode()
	if err := m.Put(key, &encoded); err != nil {
		return fmt.Errorf("record attachment: %w", err)
	}
	return nil
}

// Attachment reads one attachment; ok is false if there is none.
func (d *Datapath) Attachment(key AttachmentKey) (a Attachment, ok bool, err error) {
	m, err := d.attachments()
	if err != nil {
		return a, false, err
	}
	var encoded bpf.SockmapAttachment
	if err := m.Lookup(key, &encoded); errors.Is(err, ebpf.ErrKeyNotExist) {
		return a, false, nil
	} else if err != nil {
		return a, false, fmt.Errorf("read attachment: %w", err)
	}
	return decodeAttachment(&encoded), true, nil
}

// DeleteAttachment removes an attachment. It is no error if there is none.
func (d *Datapath) DeleteAttachment(key AttachmentKey) error {
	m, err := d.attachments()
	if err != nil {
		return err
	}
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove attachment: %w", err)
	}
	return nil
}

// listBatch is how many attachments one system call reads. Each has 1.4 KiB, so a larger batch would cost
// small nodes more memory than it saves large ones in calls.
const listBatch = 64

// Attachments lists all attachments. Without the lock the list may change while it is read.
func (d *Datapath) Attachments() (map[AttachmentKey]Attachment, error) {
	m, err := d.attachments()
	if err != nil {
		return nil, err
	}
	var (
		keys    = make([]AttachmentKey, listBatch)
		encoded = make([]bpf.SockmapAttachment, listBatch)
		cursor  ebpf.MapBatchCursor
		all     = map[AttachmentKey]Attachment{}
	)
	for {
		n, err := m.BatchLookup(&cursor, keys, encoded, nil)
		for i := range n {
			all[keys[i]] = decodeAttachment(&encoded[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return all, nil // that was the last batch
		}
		if err != nil {
			return nil, fmt.Errorf("list attachments: %w", err)
		}
	}
}
