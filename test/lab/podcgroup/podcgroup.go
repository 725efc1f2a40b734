// SPDX-License-Identifier: Apache-2.0

// Package podcgroup makes the cgroups of pods as the kubelet does, at the root of every hierarchy, for tests
// that ask a runtime for pods as the kubelet does. Several processes may use it at once.
package podcgroup

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// uidPrefix is the prefix of the UIDs of these tests' pods, which distinguishes their cgroups from those of
// others. The PID of the process that made them follows.
const uidPrefix = "50c7ab1e-"

// OwnUIDs is the prefix of the UIDs that this process makes up.
func OwnUIDs() string {
	return fmt.Sprintf("%s%04x-%04x-", uidPrefix, os.Getpid()>>16, os.Getpid()&0xffff)
}

// NewUID makes up the UID of a pod.
func NewUID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("%s%x-%x", OwnUIDs(), b[:2], b[2:])
}

// mark is an extended attribute of the parents of pods' cgroups that these tests have made. By it they are
// removed again, also after a process was killed. Others may use these cgroups meanwhile.
const mark = "trusted.sockmap-cni-test"

// Make makes a pod's cgroup in every hierarchy, as the kubelet does before it asks for the sandbox. It tries
// again when another process removes a parent that it found empty.
func Make(path string) error {
	all, _, err := lab.Hierarchies()
	if err != nil {
		return err
	}
	for _, mount := range all {
		for range 10 {
			if err = makeCgroups(mount, path); !errors.Is(err, os.ErrNotExist) {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func makeCgroups(mount, path string) error {
	dir := mount
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		dir = filepath.Join(dir, part)
		if err := makeCgroup(dir, dir == mount+path); err != nil {
			return err
		}
	}
	return nil
}

// makeCgroup makes a pod's cgroup, or one above it.
func makeCgroup(dir string, own bool) error {
	err := os.Mkdir(dir, 0o755)
	if err == nil && !own {
		err = unix.Setxattr(dir, mark, nil, 0)
	}
	if err != nil && (own || !errors.Is(err, os.ErrExist)) {
		return fmt.Errorf("make cgroup %s: %w", dir, err)
	}
	return lab.FillCpuset(dir)
}

// Remove kills the processes that are left there, and removes the cgroup from every hierarchy. It is no error
// if it does not exist.
func Remove(path string) error {
	all, unified, err := lab.Hierarchies()
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(unified, path, "cgroup.kill"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("kill pod: %w", err)
	}
	var errs []error
	for _, mount := range all {
		errs = append(errs, lab.RemoveCgroups(filepath.Join(mount, path)))
	}
	return errors.Join(errs...)
}

// RemoveMadeParents removes the parents that Make has made, except those that others use now.
func RemoveMadeParents() {
	all, _, _ := lab.Hierarchies()
	for _, mount := range all {
		for _, dir := range []string{"kubepods/burstable", "kubepods/besteffort", "kubepods"} {
			dir = filepath.Join(mount, dir)
			if _, err := unix.Getxattr(dir, mark, nil); err == nil {
				_ = unix.Rmdir(dir)
			}
		}
	}
}

// OfProcess returns the cgroup2 cgroup of a process.
func OfProcess(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("find cgroup: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n"), nil
		}
	}
	return "", fmt.Errorf("find cgroup: process %d is in no cgroup2 hierarchy", pid)
}

// OfPods returns the cgroups of pods whose UIDs have this prefix, as paths below the mount points.
func OfPods(uids string) (paths []string, err error) {
	all, _, err := lab.Hierarchies()
	for _, mount := range all {
		for _, pattern := range []string{"/kubepods/pod", "/kubepods/*/pod"} {
			found, _ := filepath.Glob(mount + pattern + uids + "*")
			for _, dir := range found {
				paths = append(paths, strings.TrimPrefix(dir, mount))
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), err
}

// Reap removes what killed earlier processes left behind.
func Reap() error {
	paths, err := OfPods(uidPrefix)
	errs := []error{err}
	for _, path := range paths {
		var high, low int
		_, uid, _ := strings.Cut(path, uidPrefix)
		if _, err := fmt.Sscanf(uid, "%4x-%4x-", &high, &low); err != nil || unix.Kill(high<<16|low, 0) == nil {
			continue
		}
		errs = append(errs, Remove(path))
	}
	return errors.Join(errs...)
}
