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
	"github.com/moby/sys/mountinfo"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath/internal/bpf"
	"golang.org/x/sys/unix"
)

// pinDepth is how deep below the root of a bpffs pins are looked for: directories of configuration are not
// deeper.
const pinDepth = 6

// FindPinned lists every state directory of sockmap on any bpffs that this process can see, sorted. One in
// another mount namespace begins with /proc/PID/root. It needs CAP_SYS_ADMIN to see all.
func FindPinned() ([]string, error) {
	pins, err := findPins()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, dirs := range pins.dirs {
		all = append(all, dirs...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// pinned are state directories by the id of their config map.
type pinned struct {
	dirs   map[ebpf.MapID][]string
	hidden bool // a bpffs exists, or may exist, that cannot be seen completely
}

// findPins finds every state directory on any bpffs that this process can see. A path in another mount
// namespace begins with /proc/PID/root. A namespace that it may not enter hides nothing if each bpffs in
// there was seen elsewhere.
func findPins() (pinned, error) {
	found := pinned{dirs: map[ebpf.MapID][]string{}}
	roots, err := mountNamespaces()
	if err != nil {
		return found, err
	}
	// A bpffs and its directories may be mounted several times.
	seen := map[uint64]bool{}
	parts := map[bpffsPart]bool{}
	for _, root := range roots {
		if root.closed {
			continue
		}
		mounts, err := bpffsMounts(root)
		found.hidden = found.hidden || err != nil
		for _, mount := range mounts {
			path := filepath.Join(root.path, mount.Mountpoint)
			var st unix.Stat_t
			part := bpffsPart{mount.Root, deviceOf(mount)}
			if unix.Stat(path, &st) != nil || st.Dev != part.dev || seen[part.dev] || parts[part] {
				continue
			}
			parts[part] = true
			seen[part.dev] = mount.Root == "/"
			found.addBelow(path)
		}
	}
	for part := range parts {
		found.hidden = found.hidden || !seen[part.dev]
	}
	for _, root := range roots {
		if root.closed && !found.hidden {
			found.hidden = hides(root, seen)
		}
	}
	return found, nil
}

// hides reports whether a namespace that cannot be entered has a bpffs that was not seen. Its mountinfo can
// be read anyway.
func hides(ns mountNS, seen map[uint64]bool) bool {
	mounts, err := bpffsMounts(ns)
	return err != nil || slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return !seen[deviceOf(m)] })
}

// mountNS is a mount namespace: the path of its root, and its mountinfo. closed: its process may not be
// inspected; the namespace may be listed already.
type mountNS struct {
	path, mountinfo string
	closed          bool
}

// mountNamespaces lists the mount namespaces of all processes, this one's first. Processes may end at any
// moment.
func mountNamespaces() ([]mountNS, error) {
	own, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, fmt.Errorf("read mount namespace: %w", err)
	}
	all := []mountNS{{path: "/", mountinfo: "/proc/thread-self/mountinfo"}}
	seen := map[string]bool{own: true}
	namespaces, err := filepath.Glob("/proc/[0-9]*/ns/mnt")
	if err != nil {
		return nil, err
	}
	for _, file := range namespaces {
		ns, err := os.Readlink(file)
		if err == nil && seen[ns] || isGone(err) {
			continue
		}
		seen[ns] = true
		process := strings.TrimSuffix(file, "/ns/mnt")
		all = append(all, mountNS{process + "/root", process + "/mountinfo", err != nil})
	}
	return all, nil
}

// bpffsMounts lists the bpffs mounts of a namespace; none if it is gone.
func bpffsMounts(ns mountNS) ([]*mountinfo.Info, error) {
	mounts, err := mountsIn(ns.mountinfo, "bpf")
	if isGone(err) || errors.Is(err, unix.EINVAL) { // EINVAL: of a process that ends
		return nil, nil
	}
	return mounts, err
}

// bpffsPart is a directory of a bpffs that is mounted somewhere. Several mounts may show the same one.
type bpffsPart struct {
	root string // the directory within the file system
	dev  uint64
}

// addBelow looks for pins by the names of paths to a config map.
func (p *pinned) addBelow(mount string) {
	_ = filepath.WalkDir(mount, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			p.hidden = p.hidden || !isGone(err)
			return fs.SkipDir
		}
		if e.IsDir() {
			if strings.Count(strings.TrimPrefix(path, mount), "/") > pinDepth {
				return fs.SkipDir
			}
			return nil
		}
		switch e.Name() {
		case bpf.SockmapMapConfig, bpf.SockmapMapSockets, bpf.SockmapProgVerdict, bpf.SockmapProgSockOps,
			bpf.SockmapProgSockOpsAny:
			addPin(path, p.dirs)
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
	if filepath.Base(path) == bpf.SockmapMapConfig {
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
