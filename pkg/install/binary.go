// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/stub"
	"golang.org/x/sys/unix"
)

const binaryMode fs.FileMode = 0o755

// answerTimeout bounds the plugin's answer to VERSION, which takes milliseconds.
const answerTimeout = 10 * time.Second

// fileID identifies a version of a file, so that a change is noticed without reading it.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func fileIDOf(path string) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileID{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// Binary is the path of the plugin on the node.
func (i *Installer) Binary() string { return filepath.Join(i.BinDir, PluginType) }

// InstallBinary copies the plugin into BinDir. It reports whether that was necessary: an identical file
// stays. A plugin that the node refuses to run does not replace the installed one.
func (i *Installer) InstallBinary(ctx context.Context) (changed bool, err error) {
	if same, err := i.unchanged(); same || err != nil {
		return false, err
	}
	changed, err = i.withSource(ctx, i.replaceBinary)
	if err != nil {
		return false, err
	}
	return changed, i.rememberCopied()
}

// TryBinary returns nil if InstallBinary would succeed now. It does not change what is installed: it copies
// the plugin beside its place, runs the copy and removes it. It is for callers that first load programs which
// only the new plugin can use.
func (i *Installer) TryBinary(ctx context.Context) error {
	if same, err := i.unchanged(); same || err != nil {
		return err
	}
	_, err := i.withSource(ctx, func(ctx context.Context, src *os.File) error {
		temp, err := i.copyThatRuns(ctx, src)
		if err != nil {
			return err
		}
		return unlink(temp)
	})
	return err
}

// withSource calls f with the plugin that is to be installed, unless an identical one is installed and runs.
// It holds the lock of BinDir meanwhile. It reports whether f has succeeded.
func (i *Installer) withSource(ctx context.Context,
	f func(context.Context, *os.File) error) (done bool, err error) {
	locked, err := i.lock(ctx, i.BinDir)
	if err != nil {
		return false, err
	}
	defer locked.Unlock()
	if err := removeTemps(i.BinDir); err != nil {
		return false, err
	}
	src, err := os.Open(i.Source)
	if err != nil {
		return false, fmt.Errorf("open plugin: %w", err)
	}
	defer src.Close()
	if err := i.refuseStub(src); err != nil {
		return false, err
	}
	same, err := i.identical(src)
	if err != nil {
		return false, err
	}
	if same {
		return false, checkAnswers(ctx, i.Binary())
	}
	if err := checkAnswers(ctx, i.Source); err != nil {
		return false, err
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	err = f(ctx, src)
	return err == nil, err
}

func (i *Installer) replaceBinary(ctx context.Context, src *os.File) error {
	temp, err := i.copyThatRuns(ctx, src)
	if err != nil {
		return err
	}
	if err := i.rename(temp, i.Binary()); err != nil {
		return errors.Join(err, unlink(temp))
	}
	return nil
}

// refuseStub returns an error if src is a stub, which answers VERSION like the plugin and accelerates
// nothing.
func (i *Installer) refuseStub(src *os.File) error {
	st, err := src.Stat()
	if err != nil || !stub.Marked(src, st.Size()) {
		return err
	}
	return fmt.Errorf("%s is a stub, which uninstall left in the plugin's place, and not the plugin: put the "+
		"plugin of a release there, or name it by --plugin", i.Source)
}

// binaryAttributes: root runs the plugin, and it belongs to the user who installs it.
func (i *Installer) binaryAttributes() fileAttributes {
	return fileAttributes{binaryMode, os.Geteuid(), os.Getegid(), nil}
}

// unchanged reports whether source and installed plugin are still the files that were identical before, with
// nothing left beside them.
func (i *Installer) unchanged() (bool, error) {
	src, err := fileIDOf(i.Source)
	if err != nil {
		return false, fmt.Errorf("plugin: %w", err)
	}
	dst, err := fileIDOf(i.Binary())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || i.copied != [2]fileID{src, dst} {
		return false, err
	}
	left, err := temps(i.BinDir)
	return len(left) == 0, err
}

// settleTime is how old the last change of a file must be for its fileID to count: time stamps have a
// granularity, and a second change within it would not show.
const settleTime = 2 * time.Second

// rememberCopied saves the next call the comparison.
func (i *Installer) rememberCopied() error {
	src, err := fileIDOf(i.Source)
	if err != nil {
		return err
	}
	dst, err := fileIDOf(i.Binary())
	if err != nil {
		return err
	}
	i.copied = [2]fileID{}
	if isSettled(src) && isSettled(dst) {
		i.copied = [2]fileID{src, dst}
	}
	return nil
}

func isSettled(id fileID) bool { return time.Since(time.Unix(id.ctime.Unix())).Abs() > settleTime }

// identical compares the installed plugin with src: content and mode.
func (i *Installer) identical(src *os.File) (bool, error) {
	dst, err := os.Open(i.Binary())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dst.Close()
	a, err := src.Stat()
	if err != nil {
		return false, err
	}
	b, err := dst.Stat()
	if err != nil {
		return false, err
	}
	if !b.Mode().IsRegular() || a.Size() != b.Size() || b.Mode().Perm() != binaryMode {
		return false, nil
	}
	return sameContent(src, dst)
}

func sameContent(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return isEOF(errA) && isEOF(errB), errors.Join(unlessEOF(errA), unlessEOF(errB))
		}
	}
}

func isEOF(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

func unlessEOF(err error) error {
	if isEOF(err) {
		return nil
	}
	return err
}

// installStub replaces the plugin by the stub. If the plugin does not exist, it does nothing.
func (i *Installer) installStub(ctx context.Context) error {
	locked, err := i.lock(ctx, i.BinDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer locked.Unlock()
	if err := removeTemps(i.BinDir); err != nil {
		return err
	}
	binary, err := os.Open(i.Binary())
	if errors.Is(err, fs.ErrNotExist) {
		return locked.Remove()
	}
	if err != nil {
		return err
	}
	defer binary.Close()
	st, err := binary.Stat()
	if err != nil || stub.Marked(binary, st.Size()) {
		return err
	}
	return i.publish(i.Binary(), stub.Of(binary, st.Size()), i.binaryAttributes())
}

// removeBinary removes the plugin, or its stub.
func (i *Installer) removeBinary(ctx context.Context) (bool, error) {
	locked, err := i.lock(ctx, i.BinDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer locked.Unlock()
	if err := removeTemps(i.BinDir); err != nil {
		return false, err
	}
	removed, err := i.remove(i.Binary())
	if err != nil {
		return removed, err
	}
	return removed, locked.Remove()
}

// HasPlugin reports whether a plugin of any version is installed at Binary. A stub does not count.
func (i *Installer) HasPlugin() (bool, error) {
	binary, err := os.Open(i.Binary())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open installed plugin: %w", err)
	}
	defer binary.Close()
	st, err := binary.Stat()
	if err != nil {
		return false, fmt.Errorf("look at installed plugin: %w", err)
	}
	return st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 && !stub.Marked(binary, st.Size()), nil
}
