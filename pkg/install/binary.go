// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/stub"
	"golang.org/x/sys/unix"
)

const binaryMode fs.FileMode = 0o755

// answerTime bounds how long the plugin may take to say which versions it supports. It needs milliseconds.
const answerTime = 10 * time.Second

// identity tells whether a file is the same as it was, without reading it.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func identify(path string) (identity, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return identity{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return identity{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// Binary is the path of the plugin on the node.
func (i *Installer) Binary() string { return filepath.Join(i.BinDir, PluginType) }

// InstallBinary copies the plugin into the directory of CNI plugins. It reports whether that had to be done: an
// identical file stays.
func (i *Installer) InstallBinary(ctx context.Context) (changed bool, err error) {
	if same, err := i.unchanged(); same || err != nil {
		return false, err
	}
	held, err := i.lock(ctx, i.BinDir)
	if err != nil {
		return false, err
	}
	defer held.Unlock()
	if err := removeTemps(i.BinDir); err != nil {
		return false, err
	}
	src, err := os.Open(i.Source)
	if err != nil {
		return false, fmt.Errorf("open plugin: %w", err)
	}
	defer src.Close()
	same, err := i.identical(src)
	if err != nil {
		return false, err
	}
	if !same {
		if err := answers(ctx, i.Source); err != nil {
			return false, err
		}
		if _, err := src.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
		if err := i.publish(i.Binary(), src, i.ownBinary()); err != nil {
			return false, err
		}
	}
	return !same, i.remember()
}

// ownBinary: the plugin is run by root, and belongs to whoever installs it.
func (i *Installer) ownBinary() like { return like{binaryMode, os.Geteuid(), os.Getegid()} }

// unchanged tells whether source and copy were found identical before and are the same files still, and nothing was
// left beside them.
func (i *Installer) unchanged() (bool, error) {
	src, err := identify(i.Source)
	if err != nil {
		return false, fmt.Errorf("plugin: %w", err)
	}
	dst, err := identify(i.Binary())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || i.copied != [2]identity{src, dst} {
		return false, err
	}
	left, err := temps(i.BinDir)
	return len(left) == 0, err
}

// fresh is how long after its last change a file's identity proves nothing: file systems tell times in ticks, and a
// second change in the same one would not show.
const fresh = 2 * time.Second

// remember spares the next call the comparison.
func (i *Installer) remember() error {
	src, err := identify(i.Source)
	if err != nil {
		return err
	}
	dst, err := identify(i.Binary())
	if err != nil {
		return err
	}
	i.copied = [2]identity{}
	if settled(src) && settled(dst) {
		i.copied = [2]identity{src, dst}
	}
	return nil
}

func settled(id identity) bool { return time.Since(time.Unix(id.ctime.Unix())).Abs() > fresh }

// identical compares what is installed with src, mode included.
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
			return ended(errA) && ended(errB), errors.Join(failed(errA), failed(errB))
		}
	}
}

func ended(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

func failed(err error) error {
	if ended(err) {
		return nil
	}
	return err
}

// answers asks a plugin for its versions, as CRI-O does. A binary for another machine, or half of one, must not
// take the place of one that works.
func answers(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{"CNI_COMMAND=VERSION"}
	cmd.Stdin = bytes.NewReader([]byte(`{"cniVersion":"1.0.0"}`))
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s is no CNI plugin for this machine: it does not answer VERSION: %w", path, err)
	}
	var answer struct {
		SupportedVersions []string `json:"supportedVersions"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return fmt.Errorf("%s is no CNI plugin: its answer to VERSION is %q: %w", path, out, err)
	}
	for _, version := range supported {
		if !slices.Contains(answer.SupportedVersions, version) {
			return fmt.Errorf("%s is not the plugin sockmap: it does not support CNI version %s", path, version)
		}
	}
	return nil
}

// installStub puts the stub in the place of the plugin. Without a binary to make it of there is none.
func (i *Installer) installStub(ctx context.Context) error {
	held, err := i.lock(ctx, i.BinDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer held.Unlock()
	if err := removeTemps(i.BinDir); err != nil {
		return err
	}
	binary, err := os.Open(i.Binary())
	if errors.Is(err, fs.ErrNotExist) {
		return held.Remove()
	}
	if err != nil {
		return err
	}
	defer binary.Close()
	st, err := binary.Stat()
	if err != nil || stub.Marked(binary, st.Size()) {
		return err
	}
	return i.publish(i.Binary(), stub.Of(binary, st.Size()), i.ownBinary())
}

// removeBinary takes the plugin, or its stub, away.
func (i *Installer) removeBinary(ctx context.Context) (bool, error) {
	held, err := i.lock(ctx, i.BinDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer held.Unlock()
	if err := removeTemps(i.BinDir); err != nil {
		return false, err
	}
	removed, err := i.remove(i.Binary())
	if err != nil {
		return removed, err
	}
	return removed, held.Remove()
}
