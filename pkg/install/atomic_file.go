// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Temporary files are hidden, and their suffix is one that no runtime loads. They are in the directory of the
// file that they become, because containerd notices a new configuration by the name that disappears.
const (
	tempPrefix = ".sockmap-"
	tempSuffix = ".tmp"
)

// fileAttributes are owner, permissions and extended attributes of a file.
type fileAttributes struct {
	mode       fs.FileMode
	uid, gid   int
	attributes []attribute // nil: those that a new file gets
}

// fileAttributesOf reads the attributes of an existing file.
func fileAttributesOf(path string) (fileAttributes, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileAttributes{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	attributes, err := attributesOf(path)
	return fileAttributes{fs.FileMode(st.Mode) & fs.ModePerm, int(st.Uid), int(st.Gid), attributes}, err
}

// publish replaces the content of path atomically and durably. Afterwards path is the new file, or after an
// error the old one with nothing left beside it.
func (i *Installer) publish(path string, content io.Reader, as fileAttributes) error {
	return i.publishBy(filepath.Dir(path), path, content, as)
}

// publishBy is publish with the temporary file in dir, which must be on the file system of path.
func (i *Installer) publishBy(dir, path string, content io.Reader, as fileAttributes) (err error) {
	if err := i.step("write " + filepath.Base(path)); err != nil {
		return err
	}
	temp, err := i.writeTemp(dir, content, as)
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
			if temp != "" {
				err = errors.Join(err, os.Remove(temp))
			}
		}
	}()
	if err != nil {
		return err
	}
	if err := i.step("rename " + filepath.Base(path)); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	// The new file is in place. An error from here on only means that a power failure may undo it.
	if err := syncDir(filepath.Dir(path)); err != nil {
		i.log().Warn("sync directory", "directory", filepath.Dir(path), "error", err)
	}
	return nil
}

// writeTemp writes a temporary file and returns its name, even after an error. It closes the file, as a file
// that is open for writing cannot be executed. A child of this process would have it open between fork and
// exec, so there must be no fork meanwhile.
func (i *Installer) writeTemp(dir string, content io.Reader, as fileAttributes) (string, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.CreateTemp(dir, tempPrefix+"*"+tempSuffix)
	if err != nil {
		return "", err
	}
	return f.Name(), errors.Join(i.writeContent(f, content, as), f.Close())
}

func (i *Installer) writeContent(f *os.File, content io.Reader, as fileAttributes) error {
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := f.Chown(as.uid, as.gid); err != nil {
		return err
	}
	// After chown, which clears bits. The umask has no effect on chmod.
	if err := f.Chmod(as.mode); err != nil {
		return err
	}
	if err := i.setAttributes(f, as.attributes); err != nil {
		return err
	}
	if err := i.step("sync"); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// rename renames a file within its directory.
func (i *Installer) rename(from, to string) error {
	if err := i.step("move " + filepath.Base(from)); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(to)); err != nil {
		i.log().Warn("sync directory", "directory", filepath.Dir(to), "error", err)
	}
	return nil
}

// remove removes a file, and reports whether it existed.
func (i *Installer) remove(path string) (bool, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err := i.step("remove " + filepath.Base(path)); err != nil {
		return false, err
	}
	err := unlink(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// temps lists temporary files, of running calls and of calls that were killed.
func temps(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) && strings.HasSuffix(e.Name(), tempSuffix) {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found, nil
}

// removeTemps removes what killed calls have left. The caller holds the lock of dir, so no other call is
// running there.
func removeTemps(dir string) error {
	found, err := temps(dir)
	errs := []error{err}
	for _, path := range found {
		// touchConfDir of another process does not take the lock.
		if err := removeTemp(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove temporary files: %w", err)
	}
	return nil
}

// touchConfDir makes containerd read its configuration again. containerd watches the directory, but not its
// subdirectories, and notices new names only when other names disappear.
func (i *Installer) touchConfDir() {
	f, err := os.CreateTemp(i.ConfDir, tempPrefix+"*"+tempSuffix)
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		i.log().Warn("containerd may not notice the change before it is restarted", "directory", i.ConfDir, "error",
			err)
	}
}
