// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/netns"
)

// byProcess returns the cgroup of the process whose network namespace file is CNI_NETNS. nerdctl, ctr and
// cri-dockerd pass such a path.
func (t *tree) byProcess(ns string) (candidate, error) {
	pid, ok := netns.PID(ns)
	if !ok {
		return candidate{}, fmt.Errorf("%q does not name a process", ns)
	}
	rel, err := t.ofProcess(pid, ns)
	if err != nil {
		return candidate{}, fmt.Errorf("process %d: %w", pid, err)
	}
	p, err := t.use(rel)
	if err != nil {
		return candidate{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return p, nil
}

// ofProcess returns the relative path of the cgroup to use for a process.
func (t *tree) ofProcess(pid int, ns string) (string, error) {
	host, err := netns.SameAsOwn(ns)
	if err != nil {
		return "", err
	}
	if host {
		return "", errors.New("is in the network namespace of the host")
	}
	name, err := stableName(ns, func() (string, error) { return unifiedName(strconv.Itoa(pid)) })
	if err != nil {
		return "", err
	}
	rel, ok, err := t.locate(containerOf(name))
	if err != nil {
		return "", fmt.Errorf("find cgroup %q: %w", name, err)
	}
	if !ok {
		return "", fmt.Errorf("cgroup %q is not below the mount %q", name, t.mount.Path)
	}
	return rel, nil
}

// stableName reads the name of a process's cgroup, and makes sure that the PID was not reused meanwhile:
// another process has another namespace.
func stableName(ns string, read func() (string, error)) (string, error) {
	dev, ino, err := netns.Stat(ns)
	if err != nil {
		return "", err
	}
	name, err := read()
	if err != nil {
		return "", err
	}
	dev2, ino2, err := netns.Stat(ns)
	if err != nil {
		return "", err
	}
	if dev != dev2 || ino != ino2 {
		return "", errors.New("changed its network namespace, or is another process by now")
	}
	return name, nil
}

// OfProcess returns the name of a process's cgroup in the unified hierarchy: its path below the mount, if
// both start at the same root.
func OfProcess(pid int) (string, error) { return unifiedName(strconv.Itoa(pid)) }

// unifiedName reads the name of a process's cgroup in the unified hierarchy from /proc/PID/cgroup. The name
// is relative to the caller's cgroup namespace.
func unifiedName(pid string) (string, error) {
	file := "/proc/" + pid + "/cgroup"
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "0::"); ok {
			name = strings.TrimSuffix(name, "\n")
			return name, checkName(name)
		}
	}
	return "", fmt.Errorf("no line for the unified hierarchy in %s", file)
}

// checkName refuses the names that the kernel writes for cgroups without a path here.
func checkName(name string) error {
	switch {
	case strings.HasSuffix(name, " (deleted)"):
		return fmt.Errorf("cgroup %q has been removed", name)
	case name == "/..", strings.HasPrefix(name, "/../"):
		return fmt.Errorf("cgroup %q is outside of this cgroup namespace", name)
	case !path.IsAbs(name):
		return fmt.Errorf("cgroup %q is not an absolute path", name)
	}
	return nil
}

// containerOf returns the cgroup to use for a process in the cgroup name.
func containerOf(name string) string {
	// crun creates a cgroup below the scope for the container's processes.
	if up := path.Dir(name); strings.HasSuffix(up, ".scope") {
		name = up
	}
	// The process is the pause container of cri-dockerd. The other containers of the pod are in sibling
	// cgroups.
	if up := path.Dir(name); isPod(path.Base(up)) {
		return up
	}
	return name
}
