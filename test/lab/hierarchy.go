// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hierarchies returns the mount points of whole cgroup hierarchies. A machine with cgroup2 only has one; a
// hybrid machine has one for each v1 controller and one for cgroup2.
func Hierarchies() (all []string, unified string, err error) {
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

// FillCpuset gives a new cgroup, if it has a cpuset of cgroup v1, the CPUs and memory nodes of its parent: a
// cpuset without CPUs admits no process.
func FillCpuset(dir string) error {
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

// RemoveCgroups removes a cgroup and those below it, as soon as their processes are gone.
func RemoveCgroups(top string) error {
	var dirs []string
	_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // removed meanwhile: no error
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
