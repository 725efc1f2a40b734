// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// register makes what record says and dir is for. An error undoes it all, but not what records of other attachments
// name, nor an older record of the same key and what that one names.
func (s *session) register(key datapath.AttachmentKey, attachment datapath.Attachment, dir *os.File) error {
	err := s.withIncompleteMarks(func() error { return s.replaceAttachment(key, attachment, dir) })
	if err != nil || attachment.HostNetNSCookie == 0 {
		return err
	}
	return s.dropEarlierSandboxes(key, attachment)
}

// dropEarlierSandboxes removes records of the same pod with hostNetwork, for which no DEL ever comes. Their policies would hold
// as long as the cgroup is there.
func (s *session) dropEarlierSandboxes(key datapath.AttachmentKey, attachment datapath.Attachment) error {
	if err := s.readAttachments(); err != nil {
		return err
	}
	s.attachments[key] = attachment
	var errs []error
	for other, r := range s.attachments {
		same := r.CgroupID != 0 && r.CgroupID == attachment.CgroupID ||
			r.ContainerCgroupID != 0 && r.ContainerCgroupID == attachment.ContainerCgroupID
		if other != key && r.HostNetNSCookie != 0 && same {
			errs = append(errs, s.remove(other))
		}
	}
	return errors.Join(errs...)
}

func (s *session) replaceAttachment(key datapath.AttachmentKey, attachment datapath.Attachment, dir *os.File) error {
	if err := s.readSharing(attachment.NetNSCookie); err != nil {
		return err
	}
	if err := s.restorePolicies(attachment.NetNSCookie); err != nil {
		return err
	}
	older, replaces, err := s.attachment(key)
	if err == nil {
		err = s.markCommon(key, attachment)
	}
	if err != nil {
		return err
	}
	if !replaces {
		if err := s.create(key, attachment, dir); err != nil {
			return s.undo(err, key, attachment, nil)
		}
		return nil
	}
	if older.NetNSCookie == attachment.NetNSCookie && older.NetNSCookie != 0 {
		attachment.Since(older) // the same sandbox, of which something was changed
	}
	// Once the new record is written, no record names what the older one did.
	marked, err := s.d.MarkUnswept()
	if err != nil {
		return err
	}
	if err := s.create(key, attachment, dir); err != nil {
		return s.undo(err, key, attachment, &older)
	}
	// The new one is in place and complete, so its ADD has not failed. What stays is swept later.
	if err := s.releaseReplaced(key, attachment, older); err != nil {
		s.log().Warn("leave a share of an earlier ADD behind", "error", err)
		return nil
	}
	if marked {
		return s.d.ClearUnswept()
	}
	return nil
}

// releaseReplaced removes what older named and record, which has taken its place, does not.
func (s *session) releaseReplaced(key datapath.AttachmentKey, attachment, older datapath.Attachment) error {
	if attachment.NetNSCookie == older.NetNSCookie && attachment.CgroupID == older.CgroupID {
		return nil
	}
	if err := s.readAttachments(); err != nil {
		return err
	}
	s.attachments[key] = attachment
	return s.release(older)
}

// undo takes back what make did before it failed, and puts older, which may be nil, back in its place. It
// returns failed with what else has failed.
func (s *session) undo(
	failed error, key datapath.AttachmentKey, attachment datapath.Attachment, older *datapath.Attachment,
) error {
	if err := s.readAttachments(); err != nil {
		return fmt.Errorf("%w (undoing it: %w)", failed, err)
	}
	delete(s.attachments, key)
	if older != nil {
		s.attachments[key] = *older
	}
	undo := errors.Join(s.release(attachment), s.writeAttachment(key))
	if undo == nil {
		return failed // a mark stays, and costs the next ADD a sweep
	}
	_, err := s.d.MarkUnswept()
	return fmt.Errorf("%w (undoing it: %w)", failed, errors.Join(undo, err))
}

func (s *session) create(key datapath.AttachmentKey, attachment datapath.Attachment, dir *os.File) error {
	if err := s.step("record"); err != nil {
		return err
	}
	if s.attachments != nil {
		s.attachments[key] = attachment
	} else {
		s.created = map[datapath.AttachmentKey]datapath.Attachment{key: attachment}
	}
	if err := s.d.PutAttachment(key, attachment); err != nil {
		return err
	}
	if dir != nil && attachment.CgroupID != 0 {
		if err := s.step("link"); err != nil {
			return err
		}
		if _, err := s.attachFor(dir, attachment); err != nil {
			return err
		}
	}
	if attachment.NetNSCookie == 0 {
		return nil
	}
	return s.applyPolicies(attachment.NetNSCookie)
}
