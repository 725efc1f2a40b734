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

// session is the work of one call on the state directory. It holds the lock from beginning to end.
type session struct {
	*Node
	d         *datapath.Datapath
	dir       *datapath.LockedDir
	loadedNow bool // this session has loaded the programs

	// attachments is the intended content of the attachments map. It is ahead of the map while something is
	// being undone. It is nil before readAttachments: an ADD that succeeds does not need the attachments of
	// other containers, and must not take longer on a node that has many.
	attachments map[datapath.AttachmentKey]datapath.Attachment
	// switches are the switches that users have turned off; nil: not read yet.
	switches *[]datapath.Switch
	// created is what this session has recorded while attachments is nil.
	created map[datapath.AttachmentKey]datapath.Attachment
}

// beginLoaded begins a session on loaded state. It returns datapath.ErrNotLoaded if nothing is loaded.
func (n *Node) beginLoaded(ctx context.Context) (*session, error) {
	return n.beginSession(ctx, false)
}

// ifLoaded runs f in a session on loaded state. If nothing is loaded, it does nothing.
func (n *Node) ifLoaded(ctx context.Context, f func(*session) error) error {
	s, err := n.beginLoaded(ctx)
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.end()
	return f(s)
}

// beginOrLoad begins a session, and loads the programs if necessary, unless NeverLoad is set. It returns an
// ErrLoadFailed if the same load has just failed.
func (n *Node) beginOrLoad(ctx context.Context) (*session, error) {
	if n.NeverLoad {
		return n.beginLoaded(ctx)
	}
	return n.beginOrLoadUnless(ctx, n.failedBefore)
}

// beginOrLoadUnless is beginSession with loading. It runs the checks before it takes the lock as well: a call
// that must not load then neither waits for the lock nor mounts anything.
func (n *Node) beginOrLoadUnless(ctx context.Context, refusals ...loadCheck) (*session, error) {
	if err := runLoadChecks(n.Dir, refusals); err != nil {
		return nil, err
	}
	return n.beginSession(ctx, true, refusals...)
}

// loadCheck returns an error if programs must not be loaded below a state directory.
type loadCheck func(dir string) error

func runLoadChecks(dir string, refusals []loadCheck) error {
	for _, refused := range refusals {
		if err := refused(dir); err != nil {
			return err
		}
	}
	return nil
}

// beginSession takes the lock and opens the state. If load is true and nothing is loaded, it loads the
// programs. It runs the checks once it has the lock; their first error ends the session before anything is
// changed.
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

// withDir returns a copy of n that uses the locked directory, even if its name leads to another one by now.
func (n *Node) withDir(locked *datapath.LockedDir) *Node {
	inside := *n
	inside.Dir = locked.Path()
	inside.Step = n.step // read at each call, because a test may change it
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
			continue // an Unload has removed the directory meanwhile
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("%w: no %s", datapath.ErrNotLoaded, n.Dir)
		case errors.Is(err, datapath.ErrNoBPFFS) && !create:
			return nil, fmt.Errorf("%w: %w", datapath.ErrNotLoaded, err) // without bpffs nothing can be loaded
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
	// Tidying up is not the job of this call, so the call does not fail if it fails.
	if err := s.tidy(); err != nil {
		s.log().Warn("remove leftovers of killed calls", "error", err)
	}
	s.d, err = openLocked(s.Dir)
	if load && errors.Is(err, datapath.ErrNotLoaded) {
		if err := s.step("load"); err != nil {
			return err
		}
		s.loadedNow = true
		if s.Settings.Probe != nil {
			// Probes need a cgroup too, and cgroup2 may not have been looked for yet.
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
		// Each call that may load keeps the node-wide settings up to date.
		if _, err := s.applyHelpers(); err != nil {
			return err
		}
	}
	return nil
}

// readAttachments fills s.attachments. Its time grows with the number of attachments of the node.
func (s *session) readAttachments() (err error) {
	if s.attachments == nil {
		s.attachments, err = s.d.Attachments()
	}
	return err
}

// readSharing reads the attachments if others may use this network namespace, which has an endpoint then.
// Without an endpoint the only other attachments can be those of ADDs that were killed before they made one.
func (s *session) readSharing(cookie uint64) error {
	if s.attachments != nil || cookie == 0 {
		return nil
	}
	if _, ok, err := s.d.Endpoint(cookie); !ok || err != nil {
		return err
	}
	return s.readAttachments()
}

// sharing returns the attachments that include all those of one network namespace, after readSharing.
func (s *session) sharing() map[datapath.AttachmentKey]datapath.Attachment {
	if s.attachments == nil {
		return s.created
	}
	return s.attachments
}

// attachment reads one attachment; ok is false if it does not exist.
func (s *session) attachment(key datapath.AttachmentKey) (attachment datapath.Attachment, ok bool,
	err error) {
	if s.attachments == nil {
		return s.d.Attachment(key)
	}
	attachment, ok = s.attachments[key]
	return attachment, ok, nil
}

func (s *session) end() {
	if s.d != nil {
		// Not the job of this call either. Guards that keep running cost the processes of the node a little
		// time, and nothing else.
		if _, err := s.d.RestGuards(); err != nil {
			s.log().Warn("pause the guards, which no container needs", "error", err)
		}
		s.d.Close()
	}
	// Even if this fails, the directory is unlocked, because the descriptor is closed.
	if err := s.dir.Unlock(); err != nil {
		s.log().Warn("unlock", "error", err)
	}
}

// writeAttachment writes the attachment of this key from s.attachments to the map, or deletes it there if
// s.attachments does not have it.
func (s *session) writeAttachment(key datapath.AttachmentKey) error {
	if err := s.step("record"); err != nil {
		return err
	}
	if attachment, ok := s.attachments[key]; ok {
		return s.d.PutAttachment(key, attachment)
	}
	return s.d.DeleteAttachment(key)
}

// remove deletes an attachment, and its link and endpoint unless other attachments use them. The attachment
// goes last, so that after a kill it shows what is left to do. remove reads all other attachments only if one
// of them may use the same.
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

// removeUnshared removes an attachment that shares nothing with others. s.attachments is nil, so release
// finds no other user.
func (s *session) removeUnshared(key datapath.AttachmentKey, attachment datapath.Attachment) error {
	if err := s.release(attachment); err != nil {
		return err
	}
	if err := s.step("record"); err != nil {
		return err
	}
	return s.d.DeleteAttachment(key)
}

// release removes the link and the endpoint of an attachment unless s.attachments has other users of them. An
// endpoint with other users keeps their policies.
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
	return errors.Join(s.d.Detach(datapath.LinkKey{CgroupID: cgroupID}),
		s.d.ClearCommon(datapath.CommonCgroup(cgroupID)))
}
