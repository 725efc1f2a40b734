// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// pinDepth is how deep below the root of a bpffs pins are looked for: directories of configuration are not deeper.
const pinDepth = 6

// FindPinned lists every state directory of sockmap on any bpffs that this process can see, sorted. One in another mount
// namespace begins with /proc/PID/root. It needs CAP_SYS_ADMIN to see all.
func FindPinned() ([]string, error) {
	pins, err := findPins()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, dirs := range pins {
		all = append(all, dirs...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// findPins finds every state directory on any bpffs that this process can see, by the config map that it leads to. A path in
// another mount namespace begins with /proc/PID/root.
func findPins() (map[ebpf.MapID][]string, error) {
	found := map[ebpf.MapID][]string{}
	roots, err := mountNamespaces()
	if err != nil {
		return nil, err
	}
	seen := map[uint64]bool{} // device numbers: one bpffs may be mounted many times
	for _, root := range roots {
		for _, mount := range bpffsMounts(root) {
			path := filepath.Join(root.path, mount)
			var st unix.Stat_t
			if unix.Stat(path, &st) != nil || seen[st.Dev] {
				continue
			}
			seen[st.Dev] = true
			findPinsBelow(path, found)
		}
	}
	return found, nil
}

// mountNS is a mount namespace: where its root is seen, and what tells its mounts.
type mountNS struct{ path, mountinfo string }

// mountNamespaces lists all that processes are in, this one's first. Processes may go at any moment.
func mountNamespaces() ([]mountNS, error) {
	own, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("read mount namespace: %w", err)
	}
	all := []mountNS{{"/", "/proc/thread-self/mountinfo"}}
	seen := map[string]bool{own: true}
	namespaces, err := filepath.Glob("/proc/[0-9]*/ns/mnt")
	if err != nil {
		return nil, err
	}
	for _, file := range namespaces {
		ns, err := os.Readlink(file)
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		process := strings.TrimSuffix(file, "/ns/mnt")
		all = append(all, mountNS{process + "/root", process + "/mountinfo"})
	}
	return all, nil
}

// bpffsMounts is where a namespace has bpffs. A namespace that is gone has none.
func bpffsMounts(ns mountNS) (points []string) {
	mounts, err := mountsIn(ns.mountinfo)
	if err != nil {
		return nil
	}
	for _, m := range mounts {
		if m.kind == "bpf" {
			points = append(points, m.path)
		}
	}
	return points
}

// findPinsBelow looks for pins by the names that lead to a config map. What cannot be read has none.
func findPinsBelow(mount string, found map[ebpf.MapID][]string) {
	_ = filepath.WalkDir(mount, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if e.IsDir() {
			if strings.Count(strings.TrimPrefix(path, mount), "/") > pinDepth {
				return fs.SkipDir
			}
			return nil
		}
		switch e.Name() {
		case bpfMapConfig, bpfMapSockets, bpfProgVerdict, bpfProgSockOps, bpfProgSockOpsAny:
			addPin(path, found)
		}
		return nil
	})
}

func addPin(path string, found map[ebpf.MapID][]string) {
	dir := filepath.Dir(filepath.Dir(path))
	add := func(id ebpf.MapID) {
		if all := found[id]; len(all) == 0 || all[len(all)-1] != dir {
			found[id] = append(all, dir)
		}
	}
	if filepath.Base(path) == bpfMapConfig {
		if m, err := ebpf.LoadPinnedMap(path, nil); err == nil {
			if id, ok := mapID(m); ok {
				add(id)
			}
			m.Close()
		}
		return
	}
	s := switches{}
	defer s.close()
	if err := s.follow(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	for id := range s {
		add(id)
	}
}
