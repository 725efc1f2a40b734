// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchies are the mount points of whole cgroup hierarchies: one on a machine with cgroup2 only, one for each
// controller and that of cgroup2 on a hybrid one.
func hierarchies() (all []string, unified string, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, "", fmt.Errorf("find cgroups: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 || fields[3] != "/" {
			continue
		}
		switch point := fields[4]; {
		case strings.HasPrefix(after, "cgroup2 "):
			all, unified = append(all, point), point
		case strings.HasPrefix(after, "cgroup "):
			all = append(all, point)
		}
	}
	if unified == "" {
		return nil, "", errors.New("find cgroups: cgroup2 is not mounted (mount -t cgroup2 none /sys/fs/cgroup)")
	}
	return all, unified, nil
}

// mark is an extended attribute of the cgroups above the pods' that these tests have made, by which they are removed
// again, also after a process that was killed. Others may use them meanwhile.
const mark = "trusted.sockmap-cni-test"

// makePodCgroup makes a pod's cgroup in every hierarchy, as the kubelet does before it asks for the sandbox. It tries
// again when another process removes a parent that it found empty.
func makePodCgroup(path string) error {
	all, _, err := hierarchies()
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
	// A cpuset without CPUs admits no process.
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		mine, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.TrimSpace(string(mine)) != "" {
			continue
		}
		parents, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return fmt.Errorf("set up cgroup: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), parents, 0o600); err != nil {
			return fmt.Errorf("set up cgroup: %w", err)
		}
	}
	return nil
}

// removePodCgroup kills what is left there, and removes the cgroup from every hierarchy; not there is fine.
func removePodCgroup(path string) error {
	all, unified, err := hierarchies()
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(unified, path, "cgroup.kill"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("kill pod: %w", err)
	}
	var errs []error
	for _, mount := range all {
		errs = append(errs, removeCgroups(filepath.Join(mount, path)))
	}
	return errors.Join(errs...)
}

// removeCgroups removes a cgroup and those below it, as soon as their processes are gone.
func removeCgroups(top string) error {
	var dirs []string
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // gone meanwhile is as good
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			err := unix.Rmdir(dirs[i])
			if err == nil || err == unix.ENOENT {
				break
			}
			if err != unix.EBUSY || time.Now().After(end) {
				return fmt.Errorf("remove cgroup %s: %w", dirs[i], err)
			}
		}
	}
	return nil
}

// removeMadeParents removes what makePodCgroup has made besides the pods', except what others use by now.
func removeMadeParents() {
	all, _, _ := hierarchies()
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
	all, _, err := hierarchies()
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
