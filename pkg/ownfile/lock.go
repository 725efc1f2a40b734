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

// Lock locks a file that only root can open, in a directory that others can open, too, and could hold the lock of. The file is made
// with mode 0600 when it is missing, and stays. Otherwise it is lock.Exclusive: a missing directory is fs.ErrNotExist.
func Lock(ctx context.Context, path string) (*lock.Lock, error) {
	l, err := lock.ExclusiveBy(ctx, path, func() (*os.File, error) {
		f, err := Open(path, unix.O_RDWR, Demand{Regular: true})
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		// A copy, or somebody who meant well. Not each time, because a change of attributes is an event to those who watch.
		if err == nil && st.Mode().Perm() != 0o600 {
			err = f.Chmod(0o600)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	})
	// Where nothing can be made, nothing will be changed: a look needs to exclude nobody for certain.
	if errors.Is(err, unix.EROFS) {
		return lock.Exclusive(ctx, filepath.Dir(path))
	}
	return l, err
}
