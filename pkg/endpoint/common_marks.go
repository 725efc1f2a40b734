// SPDX-License-Identifier: Apache-2.0

package endpoint

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath"

// markCommon marks the network namespace and the cgroup of an attachment as shared, if other attachments use
// them as well. It does so before the attachment is written. A DEL reads all attachments only if its own are
// marked.
//
// All attachments have been read if the network namespace has an endpoint, see readSharing. If it has none,
// the existence of the cgroup's link shows that another attachment uses the cgroup.
func (s *session) markCommon(key datapath.AttachmentKey, attachment datapath.Attachment) error {
	netns, cgroup := false, false
	for k, other := range s.attachments {
		if k != key {
			netns = netns || other.NetNSCookie == attachment.NetNSCookie
			cgroup = cgroup || other.CgroupID == attachment.CgroupID
		}
	}
	if s.attachments == nil && attachment.CgroupID != 0 {
		var err error
		if cgroup, err = s.d.HasLink(datapath.LinkKey{CgroupID: attachment.CgroupID}); err != nil {
			return err
		}
	}
	return s.setCommonMarks(attachment, netns, cgroup)
}

func (s *session) setCommonMarks(attachment datapath.Attachment, netns, cgroup bool) error {
	if netns && attachment.NetNSCookie != 0 {
		if err := s.d.MarkCommon(datapath.CommonNetNS(attachment.NetNSCookie)); err != nil {
			return err
		}
	}
	if cgroup && attachment.CgroupID != 0 {
		return s.d.MarkCommon(datapath.CommonCgroup(attachment.CgroupID))
	}
	return nil
}

// isUnshared reports whether no other attachment uses the network namespace or the cgroup of this one. It is
// false if that is not known.
func (s *session) isUnshared(attachment datapath.Attachment) (bool, error) {
	if attachment.NetNSCookie == 0 && attachment.CgroupID == 0 {
		return true, nil
	}
	if complete, err := s.d.CommonComplete(); !complete || err != nil {
		return false, err
	}
	if common, err := s.d.IsCommon(datapath.CommonNetNS(attachment.NetNSCookie)); common || err != nil {
		return false, err
	}
	common, err := s.d.IsCommon(datapath.CommonCgroup(attachment.CgroupID))
	return !common && err == nil, err
}

// withIncompleteMarks calls f, which changes an attachment and its link and endpoint, while the marks count
// as incomplete. If f is killed, an attachment may remain whose link or endpoint does not exist. Another ADD
// may then create them without marking them as shared. So after a kill or an error the next DEL reads all
// attachments.
func (s *session) withIncompleteMarks(f func() error) error {
	complete, err := s.d.CommonComplete()
	if err == nil && complete {
		err = s.d.UncompleteCommon()
	}
	if err == nil {
		err = f()
	}
	if err != nil || !complete {
		return err
	}
	if err := s.d.CompleteCommon(); err != nil {
		s.log().Warn("the next DEL reads all attachments", "error", err)
	}
	return nil
}

// completeCommon marks for all attachments what each ADD marks for its own. The marks can be missing after a
// killed call, or if an older version wrote the state.
func (s *session) completeCommon() error {
	if complete, err := s.d.CommonComplete(); complete || err != nil {
		return err
	}
	namespaces, cgroups := map[uint64]int{}, map[uint64]int{}
	for _, attachment := range s.attachments {
		namespaces[attachment.NetNSCookie]++
		cgroups[attachment.CgroupID]++
	}
	for _, attachment := range s.attachments {
		if err := s.setCommonMarks(attachment, namespaces[attachment.NetNSCookie] > 1,
			cgroups[attachment.CgroupID] > 1); err != nil {
			return err
		}
	}
	if err := s.step("common"); err != nil {
		return err
	}
	return s.d.CompleteCommon()
}
