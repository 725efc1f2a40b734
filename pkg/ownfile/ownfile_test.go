// SPDX-License-Identifier: Apache-2.0

package ownfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab/nobody"
	"golang.org/x/sys/unix"
)

// private is the demand on a file with secrets.
var private = Demand{Forbidden: 0o077}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestFileThatOthersPreparedIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(path string) error
		says    string
	}{
		"a symbolic link": {func(path string) error { return os.Symlink(path+".victim", path) }, "symbolic link"},
		"a file of somebody else": {func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("precious"), 0o600), os.Chown(path, nobody.ID, nobody.ID))
		}, "belongs to uid 65534"},
		"a file that others read": {func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("precious"), 0o600), os.Chmod(path, 0o644))
		}, "chmod 0600"},
		"a file with another name": {func(path string) error { return os.Link(path+".victim", path) }, "2 names"},
		"a FIFO without a reader":  {func(path string) error { return unix.Mkfifo(path, 0o600) }, "reader"},
		"a directory":              {func(path string) error { return os.Mkdir(path, 0o700) }, "directory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			check(t, os.WriteFile(path+".victim", []byte("precious"), 0o600), c.prepare(path))
			f, err := Open(path, os.O_WRONLY|os.O_TRUNC, private)
			if err == nil {
				f.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q names neither %s nor %q", err, path, c.says)
			}
			for _, of := range []string{path, path + ".victim"} {
				if st, err := os.Stat(of); err != nil || !st.Mode().IsRegular() {
					continue
				}
				if text, err := os.ReadFile(of); err != nil || string(text) != "precious" {
					t.Errorf("%s has %q, %v", of, text, err)
				}
			}
		})
	}
}

func TestOwnFileIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"the first", "next"} {
		f, err := Open(path, os.O_WRONLY|os.O_TRUNC, private)
		check(t, err)
		_, err = f.WriteString(text)
		check(t, err, f.Close())
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("the file has %q, %v; want %q", got, err, text)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	null, err := Open("/dev/null", os.O_WRONLY|os.O_TRUNC, private)
	check(t, err)
	check(t, null.Close())
}

func TestLockFileIsOnlyForRoot(t *testing.T) {
	dir := t.TempDir()
	check(t, os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)) // like /etc/cni/net.d
	path := filepath.Join(dir, "lock")
	check(t, os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o666)) // of a copy
	for range 2 {
		l, err := Lock(t.Context(), path)
		check(t, err)
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		check(t, l.Remove())
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it was removed: %v", err)
		}
	}
	l, err := Lock(t.Context(), path)
	check(t, err, l.Unlock())
	for _, how := range []string{"-x", "-s"} {
		out, err := nobody.Command(t, "flock", how, path, "true").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("flock %s by nobody: %q, %v", how, out, err)
		}
	}
	start := time.Now()
	l, err = Lock(t.Context(), path)
	check(t, err, l.Unlock())
	if took := time.Since(start); took > time.Second {
		t.Errorf("the lock took %v", took)
	}
}

func TestWaiterCreatesTheRemovedLockFileAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Lock(t.Context(), path)
	check(t, err)
	second := make(chan error, 1)
	go func() {
		l, err := Lock(t.Context(), path)
		if err == nil {
			_, err = os.Stat(path) // the next caller finds the file that is locked
			err = errors.Join(err, l.Unlock())
		}
		second <- err
	}()
	fixture.Wait(t, "the second has opened the file", func() bool { return fixture.OpenTwice(path) })
	check(t, first.Remove(), <-second)
}
