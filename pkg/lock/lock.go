// SPDX-License-Identifier: Apache-2.0

// Package lock serialises processes on one directory or file.
//
// The CNI binary runs once per container and many of them run at once, so the lock has to work between
// processes and must not outlive a killed holder. flock(2) provides both. Any process that can open the
// locked file can hold the lock without end. So lock a directory only if nobody but root can open it; for
// other directories there is a file of mode 0600, see ownfile.Lock.
package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is an exclusive lock on a directory or file. It belongs to the process that took it, and ends with
// Unlock or with the process, even if that is killed. It must not be used by several goroutines at once.
type Lock struct {
	file *os.File
	path string
}

// Exclusive locks the existing directory dir, and waits for other holders until ctx ends. If dir is removed
// or replaced meanwhile, it locks the new directory: the lock is on what dir names when Exclusive returns. To
// remove dir, a process must hold its lock, so that no other process continues with a lock on a directory
// that nobody can reach.
//
// A missing directory is fs.ErrNotExist; the end of ctx is ctx.Err().
func Exclusive(ctx context.Context, dir string) (*Lock, error) {
	return ExclusiveBy(ctx, dir, func() (*os.File, error) {
		// Not os.OpenRoot or O_PATH: flock(2) refuses descriptors without a file behind them.
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
		}
		return os.NewFile(uintptr(fd), dir), nil
	})
}

// ExclusiveBy locks the file that open opens at path. It calls open again if path names another file by the
// time the lock is free.
func ExclusiveBy(ctx context.Context, path string, open func() (*os.File, error)) (*Lock, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		f, err := open()
		if err != nil {
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		l := &Lock{f, path}
		current := false
		if err = l.acquire(ctx); err == nil {
			current, err = l.current()
		}
		if err == nil && current {
			return l, nil
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
	}
}

// File is the locked file. Unlock closes it.
func (l *Lock) File() *os.File { return l.file }

// Remove removes the locked file and releases the lock. Waiting processes create a new file. A directory is
// not removed.
func (l *Lock) Remove() error {
	if l.file == nil {
		return nil
	}
	err := unix.Unlink(l.path)
	if st, statErr := l.file.Stat(); errors.Is(err, unix.ENOENT) || statErr == nil && st.IsDir() {
		err = nil
	}
	if err != nil {
		err = &fs.PathError{Op: "remove", Path: l.path, Err: err}
	}
	return errors.Join(err, l.Unlock())
}

// Unlock releases the lock. Further calls do nothing and return nil.
func (l *Lock) Unlock() error {
	if l.file == nil {
		return nil
	}
	// An explicit LOCK_UN, because a child between fork and exec has a copy of the descriptor, and would hold
	// the lock until its exec if the descriptor were only closed.
	err := flock(l.file, unix.LOCK_UN)
	if cerr := l.file.Close(); err == nil {
		err = cerr
	}
	l.file = nil
	if err != nil {
		return fmt.Errorf("unlock %q: %w", l.path, err)
	}
	return nil
}

// Bounds of the pause between two attempts.
const (
	shortestPause = 100 * time.Microsecond
	longestPause  = 25 * time.Millisecond
)

// acquire takes the flock by repeated attempts. Waiting inside flock(2) would be faster and in order, but it
// cannot be interrupted: an abandoned wait would keep its thread and its descriptor for as long as the lock
// is held.
//
// The pauses are a fraction of the time waited so far, so that short holders cost little delay, and many
// waiters cost little time.
func (l *Lock) acquire(ctx context.Context) error {
	for pause, waited := shortestPause, time.Duration(0); ; {
		err := flock(l.file, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("flock: %w", err)
		}
		// Jitter: processes that started to wait together must not retry together.
		next := pause/2 + rand.N(pause)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w while waiting for %s (the lock is free as soon as that process ends; "+
				"if it hangs, stop it and run this again)", ctx.Err(), l.holder())
		case <-time.After(next):
		}
		waited += next
		pause = min(max(shortestPause, waited/4), longestPause)
	}
}

// current reports whether the path still names the locked file.
func (l *Lock) current() (bool, error) {
	var locked, named unix.Stat_t
	if err := unix.Fstat(int(l.file.Fd()), &locked); err != nil {
		return false, fmt.Errorf("stat what is locked: %w", err)
	}
	err := unix.Stat(l.path, &named)
	if errors.Is(err, unix.ENOENT) {
		return false, nil // the next open reports it, or finds the successor
	}
	if err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	return locked.Dev == named.Dev && locked.Ino == named.Ino, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
