// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab/nobody"
	"golang.org/x/sys/unix"
)

// inMountNS runs f on a thread with mounts of its own, which ends with it.
func inMountNS(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS),
			unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func bindMount(from, to string, propagation uintptr) error {
	return errors.Join(unix.Mount(from, to, "", unix.MS_BIND, ""), unix.Mount("", to, "", propagation, ""))
}

func TestContainerDoesNotMountBPFFSThatTheNodeDoesNotSee(t *testing.T) {
	dir := t.TempDir()
	parent := filepath.Dir(DefaultDir)
	inMountNS(t, func() error {
		// As a runtime binds a directory of the node into a container, with HostToContainer.
		if err := errors.Join(bindMount(dir, dir, unix.MS_SHARED),
			bindMount(dir, parent, unix.MS_SLAVE)); err != nil {
			return err
		}
		if mirrored(dir) || !mirrored(parent) || !mirrored(parent+"/x") {
			return fmt.Errorf("mirrored: %v of the node's mount, %v of the container's, %v below it", mirrored(dir),
				mirrored(parent), mirrored(parent+"/x"))
		}
		err := EnsureDir(t.Context(), DefaultDir)
		if !errors.Is(err, ErrNoBPFFS) || !strings.Contains(err.Error(), errMirrored.Error()) {
			return fmt.Errorf("EnsureDir: %v, want %w", err, errMirrored)
		}
		// The node mounts it later, and it is seen.
		if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
			return err
		}
		if err := EnsureDir(t.Context(), DefaultDir); err != nil {
			return fmt.Errorf("once the node has bpffs: %w", err)
		}
		_, err = os.Stat(filepath.Join(dir, filepath.Base(DefaultDir)))
		return err
	})
}

func TestContainerMountsBPFFSWhereTheNodeSeesIt(t *testing.T) {
	dir := t.TempDir()
	parent := filepath.Dir(DefaultDir)
	inMountNS(t, func() error {
		// As with Bidirectional.
		if err := errors.Join(bindMount(dir, dir, unix.MS_SHARED),
			bindMount(dir, parent, unix.MS_SHARED)); err != nil {
			return err
		}
		if err := EnsureDir(t.Context(), DefaultDir); err != nil {
			return err
		}
		_, err := os.Stat(filepath.Join(dir, filepath.Base(DefaultDir)))
		return err
	})
}

// Every user can open /sys/fs and lock it.
func TestLockOfAnotherUserDoesNotDelayTheFirstMount(t *testing.T) {
	nobody.HoldLock(t, "/sys/fs")
	dir := t.TempDir()
	parent := filepath.Dir(DefaultDir)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	inMountNS(t, func() error {
		if err := bindMount(dir, parent, unix.MS_PRIVATE); err != nil {
			return err
		}
		if err := EnsureDir(ctx, DefaultDir); err != nil {
			return err
		}
		for _, path := range []string{parent, DefaultDir} {
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o700 {
				return fmt.Errorf("%s: mode %v, %w; want 0700", path, st.Mode(), err)
			}
		}
		if _, err := os.Stat(mountLock); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the lock stays: %w", err)
		}
		return nil
	})
}

// As if the runtime had mounts of its own and the node had no bpffs.
func TestBPFFSIsNotMountedWhereTheNodeDoesNotSeeIt(t *testing.T) {
	dir := t.TempDir()
	parent := filepath.Dir(DefaultDir)
	defer func(was string) { firstMountNS = was }(firstMountNS)
	// The mount namespace of this thread, kept open: the thread that gets a namespace of its own may be the
	// first of the process.
	first, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	firstMountNS = fmt.Sprintf("/proc/self/fd/%d", first.Fd())
	inMountNS(t, func() error {
		if err := bindMount(dir, parent, unix.MS_PRIVATE); err != nil {
			return err
		}
		err := EnsureDir(t.Context(), DefaultDir)
		if !errors.Is(err, ErrNoBPFFS) || !strings.Contains(err.Error(), errPrivate.Error()) {
			return fmt.Errorf("EnsureDir: %v, want %w", err, errPrivate)
		}
		if on, err := onBPFFS(parent); on || err != nil {
			return fmt.Errorf("mounted %v, %v", on, err)
		}
		return nil
	})
}
