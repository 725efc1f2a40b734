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

// Temporary files are hidden and end with nothing that a runtime loads. They are in the directory of the file that
// they become: containerd notices a new configuration by the name that disappears.
const (
	tempPrefix = ".sockmap-"
	tempSuffix = ".tmp"
)

// fileAttributes is who may do what with a file.
type fileAttributes struct {
	mode       fs.FileMode
	uid, gid   int
	attributes []attribute // nil: those that a new file gets
}

// fileAttributesOf takes it from a file that is there.
func fileAttributesOf(path string) (fileAttributes, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileAttributes{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	attributes, err := attributesOf(path)
	return fileAttributes{fs.FileMode(st.Mode) & fs.ModePerm, int(st.Uid), int(st.Gid), attributes}, err
}

// publish makes path hold what content reads, at once and for good. It returns with the old file in place, and
// nothing beside it, or with the new one.
func (i *Installer) publish(path string, content io.Reader, as fileAttributes) error {
	return i.publishBy(filepath.Dir(path), path, content, as)
}

// publishBy has its temporary file in dir, on the file system of path.
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
	// The new file is there: what fails from here on only fails to make it last through a loss of power.
	if err := syncDir(filepath.Dir(path)); err != nil {
		i.log().Warn("sync directory", "directory", filepath.Dir(path), "error", err)
	}
	return nil
}

// writeTemp returns the file's name even if it fails later on. It closes the file: nobody can run one that is open for
// writing. A child of this process, between fork and exec, would have it open, too, so there must be none meanwhile.
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
	// After chown, which clears bits. And the umask does not count.
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

// rename moves a file within its directory.
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

// remove reports whether there was anything to remove.
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

// temps lists temporary files: of a call that is at work, or of one that was killed.
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

// removeTemps removes what killed calls left. The caller holds the lock of dir, so nobody is at work there.
func removeTemps(dir string) error {
	found, err := temps(dir)
	errs := []error{err}
	for _, path := range found {
		if err := removeTemp(path); !errors.Is(err, fs.ErrNotExist) { // a nudge of somebody needs no lock
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove temporary files: %w", err)
	}
	return nil
}

// touchConfDir makes containerd read its configuration again. It watches the directory and not those in it, and looks at
// names that appear only when others disappear.
func (i *Installer) touchConfDir() {
	f, err := os.CreateTemp(i.ConfDir, tempPrefix+"*"+tempSuffix)
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		i.log().Warn("containerd may not notice the change before it is restarted", "directory", i.ConfDir, "error", err)
	}
}
