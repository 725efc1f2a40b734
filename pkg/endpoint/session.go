// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// session is one visit to the state directory, with the lock held from beginning to end.
type session struct {
	*Node
	d         *datapath.Datapath
	dir       *datapath.LockedDir
	loadedNow bool // by this session

	// attachments is what the attachments map is to hold, a step ahead of the map while something is being
	// undone: who names what is asked here. nil until loadRecords: an ADD that succeeds needs no record of
	// others, and is not to take longer on a node that has many.
	attachments map[datapath.AttachmentKey]datapath.Attachment
	// switches is what a person has switched off, once somebody has asked.
	switches *[]datapath.Switch
	// created is what this session has recorded while records is nil.
	created map[datapath.AttachmentKey]datapath.Attachment
}

// beginLoaded begins a session on state that is there. It returns datapath.ErrNotLoaded otherwise.
func (n *Node) beginLoaded(ctx context.Context) (*session, error) {
	return n.beginSession(ctx, false)
}

// beginOrLoad begins a session and loads first if need be and NeverLoad is not set. It returns an ErrLoadFailed where that has just failed.
func (n *Node) beginOrLoad(ctx context.Context) (*session, error) {
	if n.NeverLoad {
		return n.beginLoaded(ctx)
	}
	return n.beginOrLoadUnless(ctx, n.failedBefore)
}

// beginOrLoadUnless is begin for those who load. It asks refusals before, too: a refusal costs no lock, for which calls would wait
// one after the other, and mounts nothing.
func (n *Node) beginOrLoadUnless(ctx context.Context, refusals ...loadCheck) (*session, error) {
	if err := runLoadChecks(n.Dir, refusals); err != nil {
		return nil, err
	}
	return n.beginSession(ctx, true, refusals...)
}

// loadCheck is a reason not to load below a state directory.
type loadCheck func(dir string) error

func runLoadChecks(dir string, refusals []loadCheck) error {
	for _, refused := range refusals {
		if err := refused(dir); err != nil {
			return err
		}
	}
	return nil
}

// beginSession asks refusals once it has the lock: the first error ends the session before it has changed anything.
func (n *Node) beginSession(ctx context.Context, load bool, refusals ...loadCheck) (*session, error) {
	locked, err := n.lockDir(ctx, load)
	if err != nil {
		return nil, err
	}
	s := &session{Node: n.withDir(locked), dir: locked}
	if err := runLoadChecks(s.Dir, refusals); err != nil {
		s.end()
		return nil, err
	}
	if err := s.openState(load); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// withDir is the node with the state directory that is locked, whatever becomes of its name.
func (n *Node) withDir(locked *datapath.LockedDir) *Node {
	inside := *n
	inside.Dir = locked.Path()
	inside.Step = n.step // a test may change it meanwhile
	return &inside
}

func (n *Node) lockDir(ctx context.Context, create bool) (*datapath.LockedDir, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(n.LockTimeout, DefaultLockTimeout))
	defer cancel()
	for {
		if create {
			if err := n.ensureDir(ctx); err != nil {
				return nil, err
			}
		}
		locked, err := datapath.LockStateDir(ctx, n.Dir)
		switch {
		case err == nil:
			return locked, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", ErrBusy, err)
		case errors.Is(err, fs.ErrNotExist) && create:
			continue // an Unload was faster and took the directory away
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%w: no %s", datapath.ErrNotLoaded, n.Dir)
		case errors.Is(err, datapath.ErrNoBPFFS) && !create:
			return nil, fmt.Errorf("%w: %w", datapath.ErrNotLoaded, err) // nor can it be
		}
		return nil, err
	}
}

func (n *Node) ensureDir(ctx context.Context) error {
	if err := n.step("directory"); err != nil {
		return err
	}
	return datapath.EnsureDir(ctx, n.Dir)
}

// openLocked is a variable for tests.
var openLocked = datapath.OpenLocked

func (s *session) openState(load bool) (err error) {
	// Not of what this call is about, so its failure is not either.
	if err := s.tidy(); err != nil {
		s.log().Warn("tidy up beside the state in force", "error", err)
	}
	s.d, err = openLocked(s.Dir)
	if load && errors.Is(err, datapath.ErrNotLoaded) {
		if err := s.step("load"); err != nil {
			return err
		}
		s.loadedNow = true
		if s.Settings.Probe != nil {
			// Probes need a cgroup too, and nobody else may have looked for cgroup2 yet.
			if _, err := s.ensureMount(); err != nil {
				return err
			}
		}
		if s.d, err = s.loadPrograms(); err != nil {
			return &LoadError{err}
		}
	}
	if err != nil {
		return err
	}
	if load {
		// Whoever loads, or would, keeps what is node-wide up to date.
		if _, err := s.applyHelpers(); err != nil {
			return err
		}
	}
	return nil
}

// readAttachments fills s.records. It takes time for each record of the node.
func (s *session) readAttachments() (err error) {
	if s.attachments == nil {
		s.attachments, err = s.d.Attachments()
	}
	return err
}

// readSharing does the same where records of others may name this network namespace: it has an endpoint then. One
// without is named by nobody, but for an ADD that was killed before it had made one.
func (s *session) readSharing(cookie uint64) error {
	if s.attachments != nil || cookie == 0 {
		return nil
	}
	if _, ok, err := s.d.Endpoint(cookie); !ok || err != nil {
		return err
	}
	return s.readAttachments()
}

// sharing are the records among which those of one network namespace are, after loadSharing.
func (s *session) sharing() map[datapath.AttachmentKey]datapath.Attachment {
	if s.attachments == nil {
		return s.created
	}
	return s.attachments
}

// attachment reads one record; ok is false when there is none.
func (s *session) attachment(key datapath.AttachmentKey) (attachment datapath.Attachment, ok bool, err error) {
	if s.attachments == nil {
		return s.d.Attachment(key)
	}
	attachment, ok = s.attachments[key]
	return attachment, ok, nil
}

func (s *session) end() {
	if s.d != nil {
		// Not of what this call is about. While they go on, processes of the node are a little slower, and nothing else.
		if _, err := s.d.RestGuards(); err != nil {
			s.log().Warn("let the guards rest, which no container needs", "error", err)
		}
		s.d.Close()
	}
	// It cannot fail in a way that leaves the directory locked: the descriptor is closed in any case.
	if err := s.dir.Unlock(); err != nil {
		s.log().Warn("unlock", "error", err)
	}
}

// writeAttachment makes s.records and the map agree on one record: it is written, or removed when it is not in s.records.
func (s *session) writeAttachment(key datapath.AttachmentKey) error {
	if err := s.step("record"); err != nil {
		return err
	}
	if attachment, ok := s.attachments[key]; ok {
		return s.d.PutAttachment(key, attachment)
	}
	return s.d.DeleteAttachment(key)
}

// remove takes a record away, and all that no other record names. The record goes last, so that after a kill it
// still says what is left to do. It looks at all other records only where one of them may name the same.
func (s *session) remove(key datapath.AttachmentKey) error {
	attachment, _, err := s.attachment(key)
	if err != nil {
		return err
	}
	if s.attachments == nil {
		if alone, err := s.isUnshared(attachment); err != nil {
			return err
		} else if alone {
			return s.withIncompleteMarks(func() error { return s.removeUnshared(key, attachment) })
		}
	}
	if err := s.readAttachments(); err != nil {
		return err
	}
	if err := s.completeCommon(); err != nil {
		return err
	}
	delete(s.attachments, key)
	err = s.withIncompleteMarks(func() error {
		if err := s.release(attachment); err != nil {
			return err
		}
		return s.writeAttachment(key)
	})
	if err != nil {
		s.attachments[key] = attachment
	}
	return err
}

// removeUnshared removes a record that names nothing that another one does. s.records is nil: to release, none names it.
func (s *session) removeUnshared(key datapath.AttachmentKey, attachment datapath.Attachment) error {
	if err := s.release(attachment); err != nil {
		return err
	}
	if err := s.step("record"); err != nil {
		return err
	}
	return s.d.DeleteAttachment(key)
}

// release removes what record names and no record in s.records does. An endpoint that others name stays, with their
// policies.
func (s *session) release(attachment datapath.Attachment) error {
	return errors.Join(s.releaseEndpoint(attachment.NetNSCookie), s.releaseLink(attachment.CgroupID))
}

func (s *session) releaseEndpoint(cookie uint64) error {
	if cookie == 0 {
		return nil
	}
	for _, other := range s.attachments {
		if other.NetNSCookie == cookie {
			return s.applyPolicies(cookie)
		}
	}
	if err := s.step("release endpoint"); err != nil {
		return err
	}
	return errors.Join(s.d.DeleteEndpoint(cookie), s.d.ClearCommon(datapath.CommonNetNS(cookie)))
}

func (s *session) releaseLink(cgroupID uint64) error {
	if cgroupID == 0 {
		return nil
	}
	for _, other := range s.attachments {
		if other.CgroupID == cgroupID {
			return nil
		}
	}
	if err := s.step("release link"); err != nil {
		return err
	}
	return errors.Join(s.d.Detach(datapath.LinkKey{CgroupID: cgroupID}), s.d.ClearCommon(datapath.CommonCgroup(cgroupID)))
}
