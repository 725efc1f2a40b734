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
	d      *datapath.Datapath
	held   *datapath.LockedDir
	loaded bool // by this session

	// records is what the attachments map is to hold, a step ahead of the map while something is being
	// undone: who names what is asked here. nil until loadRecords: an ADD that succeeds needs no record of
	// others, and is not to take longer on a node that has many.
	records map[datapath.AttachmentKey]datapath.Attachment
	// switches is what a person has switched off, once somebody has asked.
	switches *[]datapath.Switch
	// added is what this session has recorded while records is nil.
	added map[datapath.AttachmentKey]datapath.Attachment
}

// change begins a session on state that is there. It returns datapath.ErrNotLoaded otherwise.
func (n *Node) change(ctx context.Context) (*session, error) {
	return n.begin(ctx, false)
}

// load begins a session and loads first if need be and NeverLoad is not set. It returns an ErrLoadFailed where that has just failed.
func (n *Node) load(ctx context.Context) (*session, error) {
	if n.NeverLoad {
		return n.change(ctx)
	}
	return n.loadUnless(ctx, n.failedBefore)
}

// loadUnless is begin for those who load. It asks refusals before, too: a refusal costs no lock, for which calls would wait
// one after the other, and mounts nothing.
func (n *Node) loadUnless(ctx context.Context, refusals ...refusal) (*session, error) {
	if err := firstRefusal(n.Dir, refusals); err != nil {
		return nil, err
	}
	return n.begin(ctx, true, refusals...)
}

// refusal is a reason not to load below a state directory.
type refusal func(dir string) error

func firstRefusal(dir string, refusals []refusal) error {
	for _, refused := range refusals {
		if err := refused(dir); err != nil {
			return err
		}
	}
	return nil
}

// begin asks refusals once it has the lock: the first error ends the session before it has changed anything.
func (n *Node) begin(ctx context.Context, load bool, refusals ...refusal) (*session, error) {
	held, err := n.lock(ctx, load)
	if err != nil {
		return nil, err
	}
	s := &session{Node: n.at(held), held: held}
	if err := firstRefusal(s.Dir, refusals); err != nil {
		s.end()
		return nil, err
	}
	if err := s.open(load); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// at is the node with the state directory that is locked, whatever becomes of its name.
func (n *Node) at(held *datapath.LockedDir) *Node {
	inside := *n
	inside.Dir = held.Path()
	inside.Step = n.step // a test may change it meanwhile
	return &inside
}

func (n *Node) lock(ctx context.Context, create bool) (*datapath.LockedDir, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(n.LockTimeout, DefaultLockTimeout))
	defer cancel()
	for {
		if create {
			if err := n.ensureDir(ctx); err != nil {
				return nil, err
			}
		}
		held, err := datapath.LockStateDir(ctx, n.Dir)
		switch {
		case err == nil:
			return held, nil
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

func (s *session) open(load bool) (err error) {
	// Not of what this call is about, so its failure is not either.
	if err := s.tidy(); err != nil {
		s.log().Warn("tidy up beside the state in force", "error", err)
	}
	s.d, err = datapath.Open(s.Dir)
	if load && errors.Is(err, datapath.ErrNotLoaded) {
		if err := s.step("load"); err != nil {
			return err
		}
		s.loaded = true
		if s.Settings.Probe != nil {
			// Probes need a cgroup too, and nobody else may have looked for cgroup2 yet.
			if _, err := s.ensureMount(); err != nil {
				return err
			}
		}
		if s.d, err = s.loadFirst(); err != nil {
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

// loadRecords fills s.records. It takes time for each record of the node.
func (s *session) loadRecords() (err error) {
	if s.records == nil {
		s.records, err = s.d.Attachments()
	}
	return err
}

// loadSharing does the same where records of others may name this network namespace: it has an endpoint then. One
// without is named by nobody, but for an ADD that was killed before it had made one.
func (s *session) loadSharing(cookie uint64) error {
	if s.records != nil || cookie == 0 {
		return nil
	}
	if _, ok, err := s.d.Endpoint(cookie); !ok || err != nil {
		return err
	}
	return s.loadRecords()
}

// sharing are the records among which those of one network namespace are, after loadSharing.
func (s *session) sharing() map[datapath.AttachmentKey]datapath.Attachment {
	if s.records == nil {
		return s.added
	}
	return s.records
}

// record reads one record; ok is false when there is none.
func (s *session) record(key datapath.AttachmentKey) (record datapath.Attachment, ok bool, err error) {
	if s.records == nil {
		return s.d.Attachment(key)
	}
	record, ok = s.records[key]
	return record, ok, nil
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
	if err := s.held.Unlock(); err != nil {
		s.log().Warn("unlock", "error", err)
	}
}

// put makes s.records and the map agree on one record: it is written, or removed when it is not in s.records.
func (s *session) put(key datapath.AttachmentKey) error {
	if err := s.step("record"); err != nil {
		return err
	}
	if record, ok := s.records[key]; ok {
		return s.d.PutAttachment(key, record)
	}
	return s.d.DeleteAttachment(key)
}

// remove takes a record away, and all that no other record names. The record goes last, so that after a kill it
// still says what is left to do. It looks at all other records only where one of them may name the same.
func (s *session) remove(key datapath.AttachmentKey) error {
	record, _, err := s.record(key)
	if err != nil {
		return err
	}
	if s.records == nil {
		if alone, err := s.alone(record); err != nil {
			return err
		} else if alone {
			return s.unsettled(func() error { return s.removeAlone(key, record) })
		}
	}
	if err := s.loadRecords(); err != nil {
		return err
	}
	if err := s.completeCommon(); err != nil {
		return err
	}
	delete(s.records, key)
	err = s.unsettled(func() error {
		if err := s.release(record); err != nil {
			return err
		}
		return s.put(key)
	})
	if err != nil {
		s.records[key] = record
	}
	return err
}

// removeAlone removes a record that names nothing that another one does. s.records is nil: to release, none names it.
func (s *session) removeAlone(key datapath.AttachmentKey, record datapath.Attachment) error {
	if err := s.release(record); err != nil {
		return err
	}
	if err := s.step("record"); err != nil {
		return err
	}
	return s.d.DeleteAttachment(key)
}

// release removes what record names and no record in s.records does. An endpoint that others name stays, with their
// policies.
func (s *session) release(record datapath.Attachment) error {
	return errors.Join(s.releaseEndpoint(record.NetNSCookie), s.releaseLink(record.CgroupID))
}

func (s *session) releaseEndpoint(cookie uint64) error {
	if cookie == 0 {
		return nil
	}
	for _, other := range s.records {
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
	for _, other := range s.records {
		if other.CgroupID == cgroupID {
			return nil
		}
	}
	if err := s.step("release link"); err != nil {
		return err
	}
	return errors.Join(s.d.Detach(datapath.LinkKey{CgroupID: cgroupID}), s.d.ClearCommon(datapath.CommonCgroup(cgroupID)))
}
