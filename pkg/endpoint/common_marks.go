// SPDX-License-Identifier: Apache-2.0

package endpoint

import "github.com/sockmap-cni/sockmap-cni/pkg/datapath"

// markCommon marks what record names and others may name, too, before it is written, so that their DELs look at all
// records and others need not. The records of all others are known where its network namespace has an endpoint, see
// loadSharing; where it has none, the cgroup's link tells that somebody has named the cgroup.
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

// isUnshared tells whether record is known to be the only one that names its network namespace and its cgroup.
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

// withIncompleteMarks calls f, which changes a record and what it names. A kill meanwhile may leave a record of what is not there;
// somebody else makes it and finds no trace of the record, and the next DEL of either has to look at all records. So it
// does after an error.
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
		s.log().Warn("the next DEL looks at all records", "error", err)
	}
	return nil
}

// completeCommon marks for all records what each ADD marks for its own. State may come from a version that did not, or from
// a killed call.
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
		if err := s.setCommonMarks(attachment, namespaces[attachment.NetNSCookie] > 1, cgroups[attachment.CgroupID] > 1); err != nil {
			return err
		}
	}
	if err := s.step("common"); err != nil {
		return err
	}
	return s.d.CompleteCommon()
}
