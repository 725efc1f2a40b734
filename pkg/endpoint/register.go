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
func (s *session) register(key datapath.AttachmentKey, record datapath.Attachment, dir *os.File) error {
	return s.unsettled(func() error { return s.registerUnsettled(key, record, dir) })
}

func (s *session) registerUnsettled(key datapath.AttachmentKey, record datapath.Attachment, dir *os.File) error {
	if err := s.loadSharing(record.NetNSCookie); err != nil {
		return err
	}
	if err := s.recallPolicies(record.NetNSCookie); err != nil {
		return err
	}
	older, replaces, err := s.record(key)
	if err == nil {
		err = s.markCommon(key, record)
	}
	if err != nil {
		return err
	}
	if !replaces {
		if err := s.make(key, record, dir); err != nil {
			return s.undo(err, key, record, nil)
		}
		return nil
	}
	if older.NetNSCookie == record.NetNSCookie && older.NetNSCookie != 0 {
		record.Since(older) // the same sandbox, of which something was changed
	}
	// Once the new record is written, no record names what the older one did.
	marked, err := s.d.MarkUnswept()
	if err != nil {
		return err
	}
	if err := s.make(key, record, dir); err != nil {
		return s.undo(err, key, record, &older)
	}
	// The new one is in place and complete, so its ADD has not failed. What stays is swept later.
	if err := s.releaseAfter(key, record, older); err != nil {
		s.log().Warn("leave a share of an earlier ADD behind", "error", err)
		return nil
	}
	if marked {
		return s.d.ClearUnswept()
	}
	return nil
}

// releaseAfter removes what older named and record, which has taken its place, does not.
func (s *session) releaseAfter(key datapath.AttachmentKey, record, older datapath.Attachment) error {
	if record.NetNSCookie == older.NetNSCookie && record.CgroupID == older.CgroupID {
		return nil
	}
	if err := s.loadRecords(); err != nil {
		return err
	}
	s.records[key] = record
	return s.release(older)
}

// undo takes back what make did before it failed, and puts older, which may be nil, back in its place. It
// returns failed with what else has failed.
func (s *session) undo(
	failed error, key datapath.AttachmentKey, record datapath.Attachment, older *datapath.Attachment,
) error {
	if err := s.loadRecords(); err != nil {
		return fmt.Errorf("%w (undoing it: %w)", failed, err)
	}
	delete(s.records, key)
	if older != nil {
		s.records[key] = *older
	}
	undo := errors.Join(s.release(record), s.put(key))
	if undo == nil {
		return failed // a mark stays, and costs the next ADD a sweep
	}
	_, err := s.d.MarkUnswept()
	return fmt.Errorf("%w (undoing it: %w)", failed, errors.Join(undo, err))
}

func (s *session) make(key datapath.AttachmentKey, record datapath.Attachment, dir *os.File) error {
	if err := s.step("record"); err != nil {
		return err
	}
	if s.records != nil {
		s.records[key] = record
	} else {
		s.added = map[datapath.AttachmentKey]datapath.Attachment{key: record}
	}
	if err := s.d.PutAttachment(key, record); err != nil {
		return err
	}
	if dir != nil && record.CgroupID != 0 {
		if err := s.step("link"); err != nil {
			return err
		}
		if _, err := s.attachFor(dir, record); err != nil {
			return err
		}
	}
	if record.NetNSCookie == 0 {
		return nil
	}
	return s.applyPolicies(record.NetNSCookie)
}
