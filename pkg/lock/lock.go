// SPDX-License-Identifier: Apache-2.0

// Package lock serialises processes on one directory.
//
// The CNI binary runs once per container and many of them run at once, so the
// lock has to work between processes and must not outlive a killed holder.
// flock(2) on the directory itself gives both, and needs no file that someone
// would have to clean up: bpffs, where the state lives, takes no plain files.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock is an exclusive lock on a directory. It belongs to the process that
// took it and ends with Unlock or with the process, however that dies. It is
// not safe for use by several goroutines at once.
type Lock struct {
	dir *os.File
}

// Exclusive locks the existing directory dir and waits for other holders until
// ctx ends. Directories that are removed or replaced while it waits do not
// count: the lock returned is on what dir names at the time of return. Whoever
// removes dir must hold its lock, so that nobody goes on with a lock on a
// directory that no one else can reach.
//
// A missing directory is fs.ErrNotExist; the end of ctx is ctx.Err().
func Exclusive(ctx context.Context, dir string) (*Lock, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("lock directory %q: %w", dir, err)
		}
		// Not os.OpenRoot or O_PATH: flock(2) refuses descriptors without a file behind them.
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("lock directory %q: open: %w", dir, err)
		}
		l := &Lock{dir: os.NewFile(uintptr(fd), dir)}
		if err := l.acquire(ctx); err != nil {
			return nil, fmt.Errorf("lock directory %q: %w", dir, err)
		}
		current, err := l.current()
		if err == nil && current {
			return l, nil
		}
		l.dir.Close()
		if err != nil {
			return nil, fmt.Errorf("lock directory %q: %w", dir, err)
		}
	}
}

// Unlock lets go of the lock. Further calls do nothing and return nil.
func (l *Lock) Unlock() error {
	if l.dir == nil {
		return nil
	}
	// An explicit LOCK_UN, as a child between fork and exec has a copy of the
	// descriptor, and with a mere close(2) it would hold the lock until its exec.
	err := flock(l.dir, unix.LOCK_UN)
	if cerr := l.dir.Close(); err == nil {
		err = cerr
	}
	name := l.dir.Name()
	l.dir = nil
	if err != nil {
		return fmt.Errorf("unlock directory %q: %w", name, err)
	}
	return nil
}

// acquire takes the flock. On error the descriptor is closed, or will be.
func (l *Lock) acquire(ctx context.Context) error {
	err := flock(l.dir, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		l.dir.Close()
		return fmt.Errorf("flock: %w", err)
	}
	return l.wait(ctx)
}

// wait blocks in flock(2) on a thread of its own. Polling would leave the lock
// idle between a release and the next poll, and late pollers could starve; the
// kernel wakes blocked waiters at once, in the order in which they came.
func (l *Lock) wait(ctx context.Context) error {
	granted := make(chan error)
	go func(dir *os.File) {
		err := flock(dir, unix.LOCK_EX)
		select {
		case granted <- err:
		case <-ctx.Done():
			// Nothing interrupts a blocked flock(2), so a wait that was given
			// up still gets the lock in the end, and passes it on here.
			dir.Close()
		}
	}(l.dir)
	select {
	case err := <-granted:
		if err != nil {
			l.dir.Close()
			return fmt.Errorf("flock: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w while waiting for %s (the lock is free as soon as that process ends; "+
			"if it hangs, stop it and run this again)", ctx.Err(), holder(l.dir.Name()))
	}
}

// current tells whether the path still names the directory that is locked.
func (l *Lock) current() (bool, error) {
	var locked, named unix.Stat_t
	if err := unix.Fstat(int(l.dir.Fd()), &locked); err != nil {
		return false, fmt.Errorf("stat locked directory: %w", err)
	}
	err := unix.Stat(l.dir.Name(), &named)
	if errors.Is(err, unix.ENOENT) {
		return false, nil // the next open says so, or finds the successor
	}
	if err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	return locked.Dev == named.Dev && locked.Ino == named.Ino, nil
}

func flock(dir *os.File, how int) error {
	for {
		err := unix.Flock(int(dir.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
