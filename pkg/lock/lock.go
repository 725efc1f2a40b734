// SPDX-License-Identifier: Apache-2.0

// Package lock serialises processes on one directory or file.
//
// The CNI binary runs once per container and many of them run at once, so the
// lock has to work between processes and must not outlive a killed holder.
// flock(2) gives both. Whoever can open what is locked can hold the lock, for
// ever: a directory serves as it is only if nobody but root can open it. For
// others there is a file of mode 0600 in it, see ownfile.Lock.
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

// Lock is an exclusive lock on a directory or file. It belongs to the process
// that took it and ends with Unlock or with the process, however that dies. It
// is not safe for use by several goroutines at once.
type Lock struct {
	file *os.File
	path string
}

// Exclusive locks the existing directory dir and waits for other holders until
// ctx ends. Directories that are removed or replaced while it waits do not
// count: the lock returned is on what dir names at the time of return. Whoever
// removes dir must hold its lock, so that nobody goes on with a lock on a
// directory that no one else can reach.
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

// ExclusiveBy locks what open opens at path, which is called again when path names something else by the time the lock is free.
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

// File is what is locked. It is closed by Unlock.
func (l *Lock) File() *os.File { return l.file }

// Remove removes the locked file and lets go of the lock. Whoever waits for it makes a new file. A directory stays.
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

// Unlock lets go of the lock. Further calls do nothing and return nil.
func (l *Lock) Unlock() error {
	if l.file == nil {
		return nil
	}
	// An explicit LOCK_UN, as a child between fork and exec has a copy of the
	// descriptor, and with a mere close(2) it would hold the lock until its exec.
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

// How long to wait between two attempts.
const (
	shortestPause = 100 * time.Microsecond
	longestPause  = 25 * time.Millisecond
)

// acquire takes the flock by asking again and again. Waiting inside flock(2) would be at once and in turn, but nothing interrupts
// it: a wait that is given up would go on, with its thread and its descriptor, for as long as the lock is held.
//
// The pauses are a part of the time waited so far, so that short holders are noticed soon, and many waiters cost little.
func (l *Lock) acquire(ctx context.Context) error {
	for pause, waited := shortestPause, time.Duration(0); ; {
		err := flock(l.file, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("flock: %w", err)
		}
		// Not all at once, who began to wait together.
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

// current tells whether the path still names what is locked.
func (l *Lock) current() (bool, error) {
	var locked, named unix.Stat_t
	if err := unix.Fstat(int(l.file.Fd()), &locked); err != nil {
		return false, fmt.Errorf("stat what is locked: %w", err)
	}
	err := unix.Stat(l.path, &named)
	if errors.Is(err, unix.ENOENT) {
		return false, nil // the next open says so, or finds the successor
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
