// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	m := newTree(t, "a")
	path := filepath.Join(m.Path, "a")
	f, id, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if id != idOf(t, path) || f.Name() != path {
		t.Errorf("got id %d of %s", id, f.Name())
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_PATH != 0 {
		t.Errorf("flags %#x, %v: BPF cannot attach to such a file", flags, err)
	}
	flags, err = unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v: want FD_CLOEXEC", flags, err)
	}
}

func TestOpenRefusesPathsThatAreNoCgroup(t *testing.T) {
	m := newTree(t)
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"missing":           {filepath.Join(m.Path, "x"), fs.ErrNotExist},
		"other file system": {t.TempDir(), ErrNotCgroup2},
		"file":              {filepath.Join(m.Path, "cgroup.procs"), unix.ENOTDIR},
	} {
		if f, _, err := Open(c.path); !errors.Is(err, c.want) {
			f.Close()
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// expectLife checks the results of Exists and PathOf; path is "" for a cgroup that is gone.
func expectLife(t *testing.T, m Mount, id uint64, path string) {
	t.Helper()
	if alive, err := Exists(m, id); err != nil || alive != (path != "") {
		t.Errorf("Exists(%d) = %v, %v; want it at %q", id, alive, err, path)
	}
	got, err := PathOf(m, id)
	if path == "" {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("PathOf(%d) = %q, %v; want fs.ErrNotExist", id, got, err)
		}
	} else if err != nil || got != path {
		t.Errorf("PathOf(%d) = %q, %v; want %q", id, got, err, path)
	}
}

func TestCgroupIsFoundByItsIDUntilItIsRemoved(t *testing.T) {
	real, m := realMount(t), newTree(t, "a/b")
	path := filepath.Join(m.Path, "a/b")
	first := idOf(t, path)
	expectLife(t, real, first, path)
	expectLife(t, m, first, path)

	f, _, err := Open(path) // it must not keep the cgroup alive
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expectLife(t, real, first, "")

	mkdir(t, m, "a/b")
	second := idOf(t, path)
	expectLife(t, real, first, "")
	expectLife(t, real, second, path)

	moved := filepath.Join(m.Path, "a/c")
	if err := os.Rename(path, moved); err == nil { // cgroup2 refuses it today
		path = moved
	}
	expectLife(t, real, second, path)
}

func TestIDsThatAreNoCgroups(t *testing.T) {
	real, m := realMount(t), newTree(t)
	for name, id := range map[string]uint64{
		"zero":             0,
		"never given":      1 << 62,
		"all ones":         ^uint64(0),
		"file in a cgroup": idOf(t, filepath.Join(m.Path, "cgroup.procs")),
	} {
		t.Run(name, func(t *testing.T) { expectLife(t, real, id, "") })
	}
	t.Run("the root is one", func(t *testing.T) { expectLife(t, real, idOf(t, real.Path), real.Path) })
}

// If a cgroup is reported as gone, the caller cleans up. So "not known" must be an error.
func TestUnknownCgroupIsNotReportedAsGone(t *testing.T) {
	m := newTree(t, "a")
	id := idOf(t, filepath.Join(m.Path, "a"))
	expect := func(t *testing.T, m Mount, want error) {
		t.Helper()
		if alive, err := Exists(m, id); alive || err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Exists = %v, %v; want an error other than fs.ErrNotExist", alive, err)
		} else if want != nil && !errors.Is(err, want) {
			t.Errorf("Exists: %v, want %v", err, want)
		}
	}
	t.Run("mount that is something else", func(t *testing.T) {
		expect(t, Mount{Path: t.TempDir()}, ErrNotCgroup2)
	})
	t.Run("mount that is missing", func(t *testing.T) { expect(t, Mount{Path: "/nonexistent"}, nil) })
	t.Run("no rights", func(t *testing.T) {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: its rights do not come back
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var none [2]unix.CapUserData
			if err := unix.Capset(&hdr, &none[0]); err != nil {
				done <- fmt.Errorf("drop capabilities: %w", err)
				return
			}
			_, err := Exists(m, id)
			done <- err
		}()
		if err := <-done; !errors.Is(err, unix.EPERM) {
			t.Errorf("got %v, want EPERM", err)
		}
	})
}

func BenchmarkExists(b *testing.B) {
	m := newTree(b, "a")
	real, id := realMount(b), idOf(b, filepath.Join(m.Path, "a"))
	for b.Loop() {
		if ok, err := Exists(real, id); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
