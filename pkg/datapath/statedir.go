// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"golang.org/x/sys/unix"
)

// StateDir is an open state directory that belongs to root alone. Everything below Path is done in this
// directory, even if its name is changed meanwhile.
type StateDir struct {
	file *os.File
	path string // by the descriptor
	name string // as it was opened
}

// OpenStateDir opens the state directory at path, without following a symbolic link. It returns
// fs.ErrNotExist, ErrNoBPFFS for a directory that is not on a bpffs, and a *StateError for one that others
// may have made or may change: who can write to the directory decides what root loads and removes.
func OpenStateDir(path string) (*StateDir, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if !descriptor.MatchString(path) { // which is a link always, of this process
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(path, flags, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, notADirectory(path, err)
	}
	if err != nil {
		err = &fs.PathError{Op: "open state directory", Path: path, Err: err}
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (run as root, or with CAP_DAC_OVERRIDE)", err)
		}
		return nil, err
	}
	if err := checkOwn(path, fd); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	s := &StateDir{os.NewFile(uintptr(fd), path), fmt.Sprintf("/proc/self/fd/%d", fd), spell(path)}
	opened.Store(s.path, s)
	return s, nil
}

// Path returns a path to the open directory, by its descriptor. It is valid until Close.
func (s *StateDir) Path() string { return s.path }

// Name returns the path that was opened.
func (s *StateDir) Name() string { return s.name }

// Close closes the descriptor.
func (s *StateDir) Close() error {
	s.forget()
	return s.file.Close()
}

func (s *StateDir) forget() { opened.CompareAndDelete(s.path, s) }

// within opens the state directory at path and calls f with a path that is valid until f returns.
func within(path string, f func(dir string) error) (err error) {
	s, err := OpenStateDir(path)
	if err != nil {
		return err
	}
	defer func() {
		spellError(&err)
		err = errors.Join(err, s.Close())
	}()
	return f(s.Path())
}

// removeStateDir removes the empty directory dir by its name, which is the only way.
func removeStateDir(dir string) error {
	if err := unix.Rmdir(spell(dir)); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// LockedDir is a state directory with its lock held.
type LockedDir struct {
	*StateDir
	lock *lock.Lock
}

// LockStateDir is OpenStateDir, and takes the lock: on the directory itself, which nobody else can open. See
// lock.Exclusive.
func LockStateDir(ctx context.Context, path string) (*LockedDir, error) {
	var dir *StateDir
	l, err := lock.ExclusiveBy(ctx, path, func() (f *os.File, err error) {
		if dir != nil {
			dir.forget() // path is another directory by now, which others lock
		}
		if dir, err = OpenStateDir(path); err != nil {
			return nil, err
		}
		// Everybody who can open it can hold its lock.
		if err := closeToOthers(dir.file); err != nil {
			return nil, errors.Join(err, dir.Close())
		}
		return dir.file, nil
	})
	if err != nil {
		if dir != nil {
			dir.forget()
		}
		return nil, err
	}
	return &LockedDir{dir, l}, nil
}

// Unlock releases the lock and closes the directory.
func (l *LockedDir) Unlock() error {
	l.forget()
	return l.lock.Unlock()
}

func closeToOthers(dir *os.File) error {
	st, err := dir.Stat()
	if err == nil && st.Mode().Perm()&0o077 != 0 {
		err = dir.Chmod(stateDirMode)
	}
	if err != nil {
		return fmt.Errorf("keep others out of the state directory: %w", err)
	}
	return nil
}

const stateDirMode = 0o700

const ownDirectory = "a directory of root's that nobody else can write to"

// checkOwn examines the open file, not what path names by now.
func checkOwn(path string, fd int) error {
	var (
		st    unix.Stat_t
		where unix.Statfs_t
	)
	if err := errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &where)); err != nil {
		return fmt.Errorf("look at state directory %s: %w", path, err)
	}
	if where.Type != unix.BPF_FS_MAGIC {
		return noBPFFS(filepath.Dir(spell(path)), fmt.Errorf("%s is on another file system", spell(path)))
	}
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return foreignDir(path, fmt.Sprintf("a directory of uid %d", st.Uid))
	case st.Mode&0o022 != 0:
		return foreignDir(path, fmt.Sprintf("a directory of mode %04o", st.Mode&0o7777))
	}
	return nil
}

// notADirectory returns a StateError that says what is there instead.
func notADirectory(path string, err error) error {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return &fs.PathError{Op: "open state directory", Path: path, Err: err}
	}
	what := "no directory"
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		what = "a symbolic link"
	}
	return foreignDir(path, fmt.Sprintf("%s of uid %d", what, st.Uid))
}

func foreignDir(path, found string) error {
	path = spell(path)
	parent := filepath.Dir(path)
	return &StateError{
		Path: path, Found: found, Own: ownDirectory,
		Cure: fmt.Sprintf("find out who made it, then remove it: rm -r %s, and keep others out of its place: "+
			"chmod 0700 %s", path, parent),
	}
}

// opened has each open *StateDir by its path.
var opened sync.Map

var descriptor = regexp.MustCompile(`^/proc/self/fd/[0-9]+$`)

var descriptors = regexp.MustCompile(`/proc/self/fd/[0-9]+`)

// spell replaces paths by descriptor with the names of state directories.
func spell(text string) string {
	if !strings.Contains(text, "/proc/self/fd/") {
		return text
	}
	return descriptors.ReplaceAllStringFunc(text, func(path string) string {
		if s, ok := opened.Load(path); ok {
			return s.(*StateDir).name
		}
		return path
	})
}

// spelledError is an error whose text has the directories' names.
type spelledError struct {
	err  error
	text string
}

func (e *spelledError) Error() string { return e.text }
func (e *spelledError) Unwrap() error { return e.err }

// spellError makes an error use the names of state directories. Functions that use a StateDir defer it,
// before the descriptor is closed.
func spellError(err *error) {
	if *err == nil {
		return
	}
	var state *StateError
	if errors.As(*err, &state) {
		state.Path = spell(state.Path)
	}
	before := (*err).Error()
	if text := spell(before); text != before {
		*err = &spelledError{*err, text}
	}
}
