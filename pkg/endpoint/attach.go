// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// attach links a cgroup, unless the configuration leaves the cgroup to a foreign program, and makes sure that
// no foreign program takes over our callbacks there.
func (s *session) attach(dir *os.File, key datapath.LinkKey) (made bool, err error) {
	return s.attachBy(dir, key, s.d.Attach)
}

// attachFor is attach for the cgroup of an attachment. A pod with hostNetwork gets a program of its own.
func (s *session) attachFor(dir *os.File, attachment datapath.Attachment) (made bool, err error) {
	key := datapath.LinkKey{CgroupID: attachment.CgroupID}
	if attachment.HostNetNSCookie == 0 {
		return s.attach(dir, key)
	}
	return s.attachBy(dir, key, func(dir *os.File, key datapath.LinkKey) (bool, error) {
		return s.d.AttachHost(dir, key, attachment.HostNetNSCookie)
	})
}

func (s *session) attachBy(
	dir *os.File, key datapath.LinkKey, attach func(*os.File, datapath.LinkKey) (bool, error),
) (made bool, err error) {
	alive, err := s.d.LinkAlive(key)
	if err != nil {
		return false, err
	}
	if !alive {
		if err := s.d.Yields(dir); err != nil {
			return false, err
		}
	}
	if made, err = attach(dir, key); err != nil {
		return made, err
	}
	if _, err := s.d.Rearm(dir); err != nil {
		if made {
			err = errors.Join(err, s.d.Detach(key))
		}
		return false, err
	}
	return made, nil
}

// rearmAll repeats for all links what an ADD does for its own cgroup, because foreign programs come and go.
// If a foreign program runs last in a cgroup and nothing can be attached behind it, the endpoint gets no new
// flows.
func (s *session) rearmAll() error {
	keys, err := s.d.LinkKeys()
	if err == nil {
		err = s.readAttachments()
	}
	if err != nil {
		return err
	}
	var errs []error
	used, last := map[uint64]bool{}, map[uint64]bool{}
	foreign := false
	for _, key := range keys {
		at, err := s.rearmOne(key.CgroupID)
		last[key.CgroupID] = errors.Is(err, datapath.ErrNeighbour)
		if errors.Is(err, cgroup.ErrNoCgroup2) {
			return nil // no cgroup is visible from here, so change nothing
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // it will be reaped with its attachment
		}
		if used[at] = true; at != 0 || last[key.CgroupID] {
			foreign = true
		}
		if last[key.CgroupID] {
			s.log().Warn("new connections stay on TCP", "cgroup", key.CgroupID, "reason", err)
		} else {
			errs = append(errs, err)
		}
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, s.d.KeepRearmed(used), s.d.NoteForeign(foreign))
	}
	for _, attachment := range s.attachments {
		if attachment.NetNSCookie == 0 {
			continue
		}
		_, err := s.d.SetForeign(attachment.NetNSCookie, last[attachment.CgroupID])
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *session) rearmOne(cgroupID uint64) (at uint64, err error) {
	dir, err := s.openCgroupID(cgroupID)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	if at, err = s.d.Rearm(dir); err != nil {
		return at, fmt.Errorf("restore the callbacks of cgroup %d: %w", cgroupID, err)
	}
	return at, nil
}

// rearmReplaced opens state that has just replaced older state, and runs rearmAll on it.
func (s *session) rearmReplaced() (err error) {
	if s.d, err = datapath.Open(s.Dir); err != nil {
		return err
	}
	s.attachments = nil
	return s.rearmAll()
}
