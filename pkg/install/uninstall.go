// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Node is the loaded state that the plugin uses. endpoint.Node implements it.
type Node interface {
	// Drain sends live flows to TCP, and waits until no reader has redirected bytes to read. It returns how
	// many still have some when ctx ends.
	Drain(ctx context.Context) (left int, err error)
	// Unload removes everything that is pinned, and reports whether there was anything.
	Unload(ctx context.Context, force bool) (unloaded bool, err error)
}

// Removal configures Uninstall.
type Removal struct {
	Node Node // nil: only files are removed
	// NodeAt returns the Node of an entry with another bpffsPath, and nil for the bpffsPath of Node. nil:
	// only Node is unloaded.
	NodeAt    func(bpffsPath string) Node
	CacheDirs []string // of libcni; none: no runtime calls DEL with cached configurations
	// DrainFor bounds the wait for readers of redirected bytes. They can still read the bytes afterwards.
	DrainFor time.Duration
	// LingerFor is the minimal time that the stub stays: an ADD that began with the old list may still call
	// it.
	LingerFor time.Duration
	// WaitFor bounds the wait for cached attachments to disappear.
	WaitFor time.Duration
}

// Removed is what Uninstall did.
type Removed struct {
	Unchained    []string // files from which the entry was removed
	GivenBack    []string // files that a list had replaced
	Undrained    int      // readers with redirected bytes to read at the end of DrainFor
	Unloaded     bool     // the state of Removal.Node
	UnloadedFrom []string // further state directories, of removed entries
	Binary       bool     // it existed and was removed
	// Stub and CacheError say why a stub stays: cached attachments exist, or the cache cannot be read. The
	// next Uninstall that finds neither removes it.
	Stub       []CachedAttachment
	CacheError error

	stateDirs []string // of removed entries
}

// Changed reports whether Uninstall changed anything. A stub that stays is no change.
func (r Removed) Changed() bool {
	return len(r.Unchained)+len(r.GivenBack)+len(r.UnloadedFrom) > 0 || r.Unloaded || r.Binary
}

// Uninstall removes the plugin. It removes the entries first, so that no new container uses the plugin, then
// unloads the programs, then removes the binary. If a runtime may have to call the binary for DEL, a stub
// stays. Uninstall may be repeated.
func (i *Installer) Uninstall(ctx context.Context, r Removal) (done Removed, err error) {
	if err := i.unchain(ctx, &done); err != nil {
		// Runtimes still call the plugin, so it must continue to work.
		return done, err
	}
	unchained := time.Now()
	if err := i.installStub(ctx); err != nil {
		return done, fmt.Errorf("put the stub in the plugin's place: %w", err)
	}
	if err := i.stop(ctx, r, &done); err != nil {
		return done, err
	}
	if there, err := exists(i.Binary()); err != nil || !there {
		return done, err
	}
	return done, i.removeBinaryWhenUnused(ctx, r, unchained, &done)
}

// stop unloads all state directories. It continues after errors and joins them.
func (i *Installer) stop(ctx context.Context, r Removal, done *Removed) error {
	var errs []error
	for _, u := range r.statesToUnload(done.stateDirs) {
		errs = append(errs, i.stopOne(ctx, u, r.DrainFor, done))
	}
	return errors.Join(errs...)
}

func (i *Installer) stopOne(ctx context.Context, u stateToUnload, drainFor time.Duration,
	done *Removed) error {
	if err := i.step("drain"); err != nil {
		return err
	}
	drain, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	left, err := u.Drain(drain)
	done.Undrained += left
	if err != nil {
		return u.explainError("drain flows", err)
	}
	if err := i.step("unload"); err != nil {
		return err
	}
	unloaded, err := u.Unload(ctx, false)
	u.addTo(unloaded, done)
	return u.explainError("unload", err)
}

// removeBinaryWhenUnused removes the binary once no cached attachment names it, or leaves the stub when the
// time is over.
func (i *Installer) removeBinaryWhenUnused(ctx context.Context, r Removal, unchained time.Time,
	done *Removed) error {
	const look = 200 * time.Millisecond
	for {
		done.Stub, done.CacheError = cachedAttachmentsIn(r.CacheDirs)
		needed := len(done.Stub) > 0 || done.CacheError != nil
		since := time.Since(unchained)
		if !needed && since >= r.LingerFor {
			var err error
			done.Binary, err = i.removeBinary(ctx)
			return err
		}
		if needed && since >= max(r.WaitFor, r.LingerFor) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
	}
}

func cachedAttachmentsIn(dirs []string) (all []CachedAttachment, err error) {
	for _, dir := range dirs {
		found, err := CachedAttachments(dir)
		if err != nil {
			return all, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// unchain removes the entry from every file in ConfDir. It continues after errors and joins them.
func (i *Installer) unchain(ctx context.Context, done *Removed) error {
	locked, err := i.lock(ctx, i.ConfDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer locked.Unlock()
	if err := i.checkUnclaimed(); err != nil {
		return err
	}
	files, err := networkFiles(i.ConfDir)
	if err != nil {
		return fmt.Errorf("read network configurations: %w", err)
	}
	below, err := i.filesBelow()
	if err != nil {
		return fmt.Errorf("read network configurations: %w", err)
	}
	errs := []error{removeTemps(i.ConfDir)}
	for _, path := range append(files, below...) {
		if err := i.unchainFile(path, done); err != nil {
			errs = append(errs, fmt.Errorf("take sockmap out of %s: %w", path, err))
		}
	}
	errs = append(errs, i.unchainDropIns(done), i.restoreOriginals(done))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return locked.Remove()
}

// filesBelow are lists in subdirectories of ConfDir. nerdctl has a directory of networks for each namespace,
// whose lists name the same plugin.
func (i *Installer) filesBelow() ([]string, error) {
	return glob(i.ConfDir, "*/*"+extList)
}

func (i *Installer) unchainFile(path string, done *Removed) error {
	n, err := loadNetwork(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		if n != nil && bytes.Contains(n.text, []byte(`"`+PluginType+`"`)) {
			return fmt.Errorf("it cannot be read and may name sockmap (repair it or remove it): %w", err)
		}
		return nil // no runtime can load the file, so none calls the plugin because of it
	}
	named := slices.Contains(n.pluginTypes(), PluginType)
	if n.single {
		if named {
			return errors.New("it has no other plugin than sockmap (remove the file)")
		}
		return nil
	}
	conf, replaces, err := originalOf(path)
	if err != nil {
		return err
	}
	if replaces {
		given, err := i.restoreConf(n, conf)
		if given {
			done.GivenBack = append(done.GivenBack, conf)
			done.stateDirs = append(done.stateDirs, stateDirsOf(n.text)...)
		}
		if given || err != nil {
			return err
		}
	}
	if !named {
		return nil
	}
	if err := i.unchainList(n); err != nil {
		return err
	}
	done.Unchained = append(done.Unchained, path)
	done.stateDirs = append(done.stateDirs, stateDirsOf(n.text)...)
	if replaces {
		i.log().Warn("the list still replaces its original file, because others have changed the list", "file",
			path)
	}
	return nil
}

func (i *Installer) unchainList(n *network) error {
	l, err := readList(n.text)
	if err != nil {
		return err
	}
	after, err := l.unchained()
	if err != nil {
		return err
	}
	if err := verify(n.list, after); err != nil {
		return err
	}
	return i.rewrite(n.path, after)
}

func (i *Installer) unchainDropIns(done *Removed) error {
	paths, err := i.dropIns()
	if err != nil {
		return err
	}
	for _, path := range paths {
		entry, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := i.removeDropIn(path); err != nil {
			return err
		}
		done.Unchained = append(done.Unchained, path)
		if dir := stateDirOf(entry); dir != "" {
			done.stateDirs = append(done.stateDirs, dir)
		}
	}
	return nil
}

// restoreOriginals restores each .conf whose list was removed by somebody else, or does not have the entry
// any more.
func (i *Installer) restoreOriginals(done *Removed) error {
	var errs []error
	for _, ext := range []string{extConf, extJSON} {
		kept, err := glob(i.ConfDir, "*"+ext+originalSuffix)
		errs = append(errs, err)
		for _, path := range kept {
			conf := path[:len(path)-len(originalSuffix)]
			replaces, err := anyExists(conf, conf+extList)
			switch {
			case err != nil:
			case replaces:
				_, err = i.remove(path)
			default:
				err = i.rename(path, conf)
				done.GivenBack = append(done.GivenBack, conf)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func anyExists(paths ...string) (bool, error) {
	for _, path := range paths {
		if there, err := exists(path); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// glob lists the files below dir that match a pattern. The name of dir itself may contain characters of
// patterns.
func glob(dir, pattern string) ([]string, error) {
	names, err := fs.Glob(os.DirFS(dir), pattern)
	for i, name := range names {
		names[i] = filepath.Join(dir, name)
	}
	return names, err
}
