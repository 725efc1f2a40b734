// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// watcher watches directories. If one is missing, it watches the nearest parent that exists. If one was
// replaced, it watches the new one.
type watcher struct {
	fs      *fsnotify.Watcher
	watched map[string]dirID
	wake    chan struct{}
	pumped  chan struct{} // closed when the last pump has ended
}

// dirID identifies a directory, as another one may get the same path.
type dirID struct{ dev, ino uint64 }

func (w *watcher) events() <-chan struct{} {
	if w.wake == nil {
		w.wake = make(chan struct{}, 1)
	}
	return w.wake
}

// refresh watches those of dirs that exist now. After an error nothing is watched.
func (w *watcher) refresh(dirs []string) error {
	w.events()
	want := map[string]dirID{}
	for _, dir := range dirs {
		path, id := nearest(dir)
		want[path] = id
	}
	if w.fs != nil && maps.Equal(want, w.watched) {
		return nil
	}
	w.close()
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return explainInotify(err)
	}
	for path := range want {
		if err := fs.Add(path); err != nil {
			return errors.Join(explainInotify(fmt.Errorf("%s: %w", path, err)), fs.Close())
		}
	}
	w.fs, w.watched, w.pumped = fs, want, make(chan struct{})
	go w.pump(fs, w.pumped)
	return nil
}

// nearest returns dir, or its nearest parent that exists.
func nearest(dir string) (string, dirID) {
	for {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return dir, dirID{st.Dev, st.Ino}
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir, dirID{}
		}
		dir = up
	}
}

// pump turns any number of events into one wake-up, because the agent reads everything anyway. An overflow is
// an event.
func (w *watcher) pump(fs *fsnotify.Watcher, done chan<- struct{}) {
	defer close(done)
	for {
		var ok bool
		select {
		case _, ok = <-fs.Events:
		case _, ok = <-fs.Errors:
		}
		if !ok {
			return
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) close() {
	if w.fs == nil {
		return
	}
	_ = w.fs.Close()
	<-w.pumped
	w.fs, w.watched = nil, nil
}

// explainInotify names the limits of inotify.
func explainInotify(err error) error {
	switch {
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("inotify: %w (the limit of instances: raise fs.inotify.max_user_instances)", err)
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("inotify: %w (the limit of watches: raise fs.inotify.max_user_watches)", err)
	}
	return fmt.Errorf("inotify: %w", err)
}
