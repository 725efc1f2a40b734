// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// hierarchies are the directories of all cgroup hierarchies on a hybrid machine; none on one with cgroup2
// only.
const hierarchies = "/sys/fs/cgroup/*"

// removeControllers removes what runtimes leave in the hierarchies of cgroup v1, if there are any: they make
// the same cgroups there as in cgroup2, below one with the node's ID.
func removeControllers(id string) error {
	roots, err := filepath.Glob(filepath.Join(hierarchies, id))
	for _, root := range roots {
		err = errors.Join(err, removeTree(root))
	}
	return err
}

// removeTree removes a cgroup without processes, and those below it.
func removeTree(root string) error {
	var dirs []string
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // removed meanwhile: no error
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := unix.Rmdir(dirs[i]); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove cgroup %s: %w", dirs[i], err)
		}
	}
	return nil
}

// reap removes what killed processes have left and package lab does not know: in the hierarchies of cgroup
// v1, and pods at the root of cgroup2.
func reap() error {
	left, err := filepath.Glob(filepath.Join(hierarchies, lab.Prefix+"test*"))
	for _, dir := range left {
		if _, serr := os.Stat(filepath.Join("/run", filepath.Base(dir))); errors.Is(serr, fs.ErrNotExist) {
			err = errors.Join(err, removeTree(dir))
		}
	}
	mount, merr := cgroup.FindMount()
	if merr != nil {
		return errors.Join(err, merr)
	}
	for _, driver := range []func(string) string{systemdPod, cgroupfsPod} {
		pods, gerr := filepath.Glob(filepath.Join(mount.Path, driver(uidStem+"*")))
		err = errors.Join(err, gerr)
		for _, pod := range pods {
			err = errors.Join(err, reapPod(pod))
		}
	}
	return err
}

// reapPod removes the cgroup of a pod if the process whose number is a part of the pod's UID has ended.
func reapPod(dir string) error {
	name := strings.TrimSuffix(filepath.Base(dir), ".slice")
	pid, err := strconv.ParseUint(name[len(name)-12:len(name)-1], 16, 32)
	if err != nil {
		return fmt.Errorf("reap pod %s: %w", dir, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		return fmt.Errorf("reap pod %s: %w", dir, err)
	}
	if err := removeTree(dir); err != nil {
		return err
	}
	for up := filepath.Dir(dir); os.Remove(up) == nil; { // while they are empty
		up = filepath.Dir(up)
	}
	return nil
}
