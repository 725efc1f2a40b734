// SPDX-License-Identifier: Apache-2.0

package ownfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"golang.org/x/sys/unix"
)

// Lock locks a file that only root can open. Its directory may be open to others, who could hold the lock of
// the directory. The file is created with mode 0600 if it does not exist, and stays. Otherwise Lock is like
// lock.Exclusive: a missing directory is fs.ErrNotExist.
func Lock(ctx context.Context, path string) (*lock.Lock, error) {
	l, err := lock.ExclusiveBy(ctx, path, func() (*os.File, error) {
		f, err := Open(path, unix.O_RDWR, Demand{Regular: true})
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		// Somebody has changed the mode. Not done each time, because a change of attributes is an event for
		// watchers.
		if err == nil && st.Mode().Perm() != 0o600 {
			err = f.Chmod(0o600)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	})
	// On a read-only file system nothing can be changed, so a caller that only reads needs no exclusion from
	// others.
	if errors.Is(err, unix.EROFS) {
		return lock.Exclusive(ctx, filepath.Dir(path))
	}
	return l, err
}
