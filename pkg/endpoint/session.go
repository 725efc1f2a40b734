// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
)

// session is one visit to the state directory, with the lock held from beginning to end.
type session struct {
	*Node
	d      *datapath.Datapath
	held   *lock.Lock
	loaded bool // by this session

	// records is what the attachments map is to hold, a step ahead of the map while something is being undone:
	// who names what is asked here.
	records map[datapath.AttachmentKey]datapath.Attachment
}

// change begins a session on state that is there. It returns datapath.ErrNotLoaded otherwise.
func (n *Node) change(ctx context.Context) (*session, error) {
	return n.begin(ctx, false)
}

// load begins a session and loads first if need be.
func (n *Node) load(ctx context.Context) (*session, error) {
	return n.begin(ctx, true)
}

// begin asks refusals once it has the lock: the first error ends the session before it has changed anything.
func (n *Node) begin(ctx context.Context, load bool, refusals ...func(dir string) error) (*session, error) {
	held, err := n.lock(ctx, load)
	if err != nil {
		return nil, err
	}
	s := &session{Node: n, held: held}
	for _, refused := range refusals {
		if err := refused(n.Dir); err != nil {
			s.end()
			return nil, err
		}
	}
	if err := s.open(load); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (n *Node) lock(ctx context.Context, create bool) (*lock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(n.LockTimeout, DefaultLockTimeout))
	defer cancel()
	for {
		if create {
			if err := n.ensureDir(ctx); err != nil {
				return nil, err
			}
		}
		held, err := lock.Exclusive(ctx, n.Dir)
		switch {
		case err == nil:
			return held, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", ErrBusy, err)
		case errors.Is(err, fs.ErrNotExist) && create:
			continue // an Unload was faster and took the directory away
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%w: no %s", datapath.ErrNotLoaded, n.Dir)
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
		s.d, err = datapath.Load(s.Dir, s.Settings)
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
	s.records, err = s.d.Attachments()
	return err
}

func (s *session) end() {
	if s.d != nil {
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

// register makes what record says and policy and dir are for. An error undoes it all, but not what records of
// other attachments name, nor an older record of the same key and what that one names.
func (s *session) register(key datapath.AttachmentKey, record datapath.Attachment, policy datapath.Policy, dir *os.File) error {
	older, replaces := s.records[key]
	s.records[key] = record
	err := s.make(key, record, policy, dir)
	if err != nil {
		delete(s.records, key)
		if replaces {
			s.records[key] = older
		}
		if undo := errors.Join(s.release(record), s.put(key)); undo != nil {
			return fmt.Errorf("%w (undoing it: %w)", err, undo)
		}
		return err
	}
	if !replaces {
		return nil
	}
	// The new one is in place and complete, so its ADD has not failed. What stays is swept later.
	if err := s.release(older); err != nil {
		s.log().Warn("leave a share of an earlier ADD behind", "error", err)
	}
	return nil
}

func (s *session) make(key datapath.AttachmentKey, record datapath.Attachment, policy datapath.Policy, dir *os.File) error {
	if err := s.put(key); err != nil {
		return err
	}
	if dir != nil && record.CgroupID != 0 {
		if err := s.step("link"); err != nil {
			return err
		}
		if _, err := s.attach(dir, datapath.LinkKey{CgroupID: record.CgroupID}); err != nil {
			return err
		}
	}
	if record.NetNSCookie != 0 {
		if err := s.step("endpoint"); err != nil {
			return err
		}
		return s.d.SetEndpoint(record.NetNSCookie, policy)
	}
	return nil
}

// remove takes a record away, and all that no other record names. The record goes last, so that after a kill it
// still says what is left to do.
func (s *session) remove(key datapath.AttachmentKey) error {
	record := s.records[key]
	delete(s.records, key)
	err := s.release(record)
	if err == nil {
		err = s.put(key)
	}
	if err != nil {
		s.records[key] = record
	}
	return err
}

// release removes what record names and no record in s.records does.
func (s *session) release(record datapath.Attachment) error {
	return errors.Join(s.releaseEndpoint(record.NetNSCookie), s.releaseLink(record.CgroupID))
}

func (s *session) releaseEndpoint(cookie uint64) error {
	if cookie == 0 {
		return nil
	}
	for _, other := range s.records {
		if other.NetNSCookie == cookie {
			return nil
		}
	}
	if err := s.step("release endpoint"); err != nil {
		return err
	}
	return s.d.DeleteEndpoint(cookie)
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
	return s.d.Detach(datapath.LinkKey{CgroupID: cgroupID})
}
