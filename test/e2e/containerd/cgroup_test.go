// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// mark is an extended attribute of the cgroups above the pods' that these tests have made, by which they are removed
// again, also after a process that was killed. Others may use them meanwhile.
const mark = "trusted.sockmap-cni-test"

// makePodCgroup makes a pod's cgroup in every hierarchy, as the kubelet does before it asks for the sandbox. It tries
// again when another process removes a parent that it found empty.
func makePodCgroup(path string) error {
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

// removePodCgroup kills what is left there, and removes the cgroup from every hierarchy; not there is fine.
func removePodCgroup(path string) error {
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

// removeMadeParents removes what makePodCgroup has made besides the pods', except what others use by now.
func removeMadeParents() {
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

// cgroupOf is the cgroup2 cgroup of a process.
func cgroupOf(pid int) (string, error) {
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

// podCgroups are the paths, below the mount points, of cgroups of pods whose UIDs begin so.
func podCgroups(uids string) (paths []string, err error) {
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

// reapPodCgroups removes what earlier processes left that were killed.
func reapPodCgroups() error {
	paths, err := podCgroups(uidPrefix)
	errs := []error{err}
	for _, path := range paths {
		var high, low int
		_, uid, _ := strings.Cut(path, uidPrefix)
		if _, err := fmt.Sscanf(uid, "%4x-%4x-", &high, &low); err != nil || unix.Kill(high<<16|low, 0) == nil {
			continue
		}
		errs = append(errs, removePodCgroup(path))
	}
	return errors.Join(errs...)
}
