// SPDX-License-Identifier: Apache-2.0

package endpoint

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
	"golang.org/x/sys/unix"
)

// retryAfter is how long a failed load is not repeated, except by calls that ask for a load.
const retryAfter = time.Minute

// ErrLoadFailed: the programs could not be loaded less than a minute ago, and this call did not try again.
// See LoadFailedError.
var ErrLoadFailed = errors.New("the programs could not be loaded")

// LoadFailedError says why the last load failed. It is an ErrLoadFailed.
type LoadFailedError struct {
	Why    decline.Reason
	Reason string        // in words
	Ago    time.Duration // since it failed
	Retry  time.Duration // until an Add tries again
}

func (e *LoadFailedError) Error() string {
	return fmt.Sprintf("%s %v ago: %s (an ADD tries again in %v, and at once: sockmapctl load)", ErrLoadFailed,
		e.Ago.Round(time.Second), e.Reason, e.Retry.Round(time.Second))
}

// Is makes every LoadFailedError an ErrLoadFailed.
func (e *LoadFailedError) Is(target error) bool { return target == ErrLoadFailed }

// failedBefore returns a LoadFailedError if nothing is loaded and the same load failed less than retryAfter
// ago. It needs no lock.
func (n *Node) failedBefore(dir string) error {
	f, ok := datapath.LastFailure(dir)
	if !ok || f.Maker != n.loaderID() || f.Ago >= retryAfter {
		return nil
	}
	d, err := datapath.Open(dir)
	if err == nil {
		return d.Close()
	}
	if !errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	return &LoadFailedError{f.Why, f.Reason, f.Ago, retryAfter - f.Ago}
}

// loaderID identifies who loads what. Another version, other settings, or a process in another container with
// other mounts and limits may succeed although this one failed.
func (n *Node) loaderID() string {
	s := n.Settings
	where, _ := netns.MountNS() // 0: unknown
	text := fmt.Sprintf("%s %s %d %q %d", datapath.Digest(), s.ProbeSet, s.MaxSockets, s.WithoutGuards, where)
	version := strings.Join(strings.Fields(s.Version), "-")
	return fmt.Sprintf("%s/%x", version, sha256.Sum256([]byte(text)))
}

// loadPrograms loads the programs, and records or clears the failure.
func (s *session) loadPrograms() (*datapath.Datapath, error) {
	if f, ok := datapath.LastFailure(s.Dir); ok {
		// Renew the record first: a probe may take seconds, and other calls can fail at once instead of
		// waiting for the lock.
		if err := datapath.RecordFailure(s.Dir, s.loaderID(), f.Why, f.Reason); err != nil {
			return nil, err
		}
	}
	d, err := datapath.Load(s.Dir, s.Settings)
	switch {
	case err == nil:
		if err := datapath.ForgetFailure(s.Dir); err != nil {
			s.log().Warn("clear the record of an earlier failure", "error", err)
		}
	case !isProcessLimit(err) && !errors.Is(err, datapath.ErrForeignState):
		if err := datapath.RecordFailure(s.Dir, s.loaderID(), ReasonOf(&LoadError{err}), err.Error()); err != nil {
			s.log().Warn("record that loading failed", "error", err)
		}
	}
	return d, err
}

// isProcessLimit reports whether an error may concern this process only, because of its rights or limits.
func isProcessLimit(err error) bool {
	for _, errno := range []syscall.Errno{unix.EPERM, unix.EACCES, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
