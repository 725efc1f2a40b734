// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// register records an attachment and makes its link and endpoint. dir is the open cgroup; nil: no link is
// made. After an error it undoes its steps. It keeps links and endpoints that other attachments use, and
// restores an older attachment with the same key.
func (s *session) register(key datapath.AttachmentKey, attachment datapath.Attachment, dir *os.File) error {
	err := s.withIncompleteMarks(func() error { return s.replaceAttachment(key, attachment, dir) })
	if err != nil || attachment.HostNetNSCookie == 0 {
		return err
	}
	return s.dropEarlierSandboxes(key, attachment)
}

// dropEarlierSandboxes removes attachments of earlier sandboxes of the same pod with hostNetwork, for which
// no DEL comes. Their policies would apply for as long as the cgroup exists.
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

func (s *session) replaceAttachment(key datapath.AttachmentKey, attachment datapath.Attachment,
	dir *os.File) error {
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
		attachment.Since(older) // the same sandbox with another configuration
	}
	// Once the new attachment is written, no attachment names the link and endpoint of the older one.
	marked, err := s.d.MarkUnswept()
	if err != nil {
		return err
	}
	if err := s.create(key, attachment, dir); err != nil {
		return s.undo(err, key, attachment, &older)
	}
	// The new attachment is complete, so its ADD has succeeded. A later call removes the rest.
	if err := s.releaseReplaced(key, attachment, older); err != nil {
		s.log().Warn("the link or endpoint of an earlier ADD stays until the next reap", "error", err)
		return nil
	}
	if marked {
		return s.d.ClearUnswept()
	}
	return nil
}

// releaseReplaced removes the link and the endpoint of older unless attachment, which has replaced it, uses
// them.
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

// undo reverts what create did before it failed, and restores older, which may be nil. It returns failed,
// joined with errors of undoing.
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
		return failed // the mark stays, and the next ADD looks for orphans in vain
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
