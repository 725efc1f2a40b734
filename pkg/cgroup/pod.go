// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The search for a pod in an unknown layout stops at either bound, because ADD must not be slow on a node
// where the pod cannot be found.
const (
	walkDirs = 1024
	walkTime = 20 * time.Millisecond
)

// byPodUID returns the cgroup that the kubelet made for the pod with this UID.
func (t *tree) byPodUID(uid string) (candidate, error) {
	// CNI_ARGS come from the API server, and the UID becomes part of a path.
	if !validUID(uid) {
		return candidate{}, fmt.Errorf("%q is not a pod UID", uid)
	}
	p, err := t.firstUsable(kubeletPaths(uid))
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return p, err
	}
	w := walk{tree: t, match: podNames(uid), dirs: walkDirs, deadline: time.Now().Add(walkTime)}
	rel, err := w.find()
	if err != nil {
		return candidate{}, fmt.Errorf("look for the cgroup of pod %s: %w", uid, err)
	}
	return t.use(rel)
}

func validUID(uid string) bool {
	return uid != "" && len(uid) <= 64 && !strings.ContainsFunc(uid, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// kubeletPaths returns the paths at which kubelets create the cgroup of a pod: with both cgroup drivers, for
// each QoS class, and with --cgroup-root=/kubelet (kind).
func kubeletPaths(uid string) []string {
	var rels []string
	for _, root := range []string{"", "kubelet"} {
		// Guaranteed pods have no level of their own.
		for _, class := range []string{"burstable", "besteffort", ""} {
			unit := joinNonEmpty("-", root, "kubepods", class, "pod"+systemdUID(uid)) + ".slice"
			if slice, err := expandSlice(unit); err == nil {
				rels = append(rels, slice)
			}
			rels = append(rels, joinNonEmpty("/", root, "kubepods", class, "pod"+uid))
		}
	}
	return rels
}

func joinNonEmpty(sep string, parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, sep)
}

// systemdUID replaces the dashes, which separate levels in names of slices.
func systemdUID(uid string) string { return strings.ReplaceAll(uid, "-", "_") }

// podNames returns a function that recognises the cgroup of a pod by the last part of its path.
func podNames(uid string) func(name string) bool {
	dir, slice := "pod"+uid, "-pod"+systemdUID(uid)+".slice"
	return func(name string) bool { return name == dir || strings.HasSuffix(name, slice) }
}

// isPod reports whether the kubelet gives a cgroup of a pod this name.
func isPod(name string) bool {
	if slice, ok := strings.CutSuffix(name, ".slice"); ok {
		i := strings.LastIndex(slice, "-pod")
		return i >= 0 && isUID(strings.ReplaceAll(slice[i+len("-pod"):], "_", "-"))
	}
	uid, ok := strings.CutPrefix(name, "pod")
	return ok && isUID(uid)
}

// isUID recognises UUIDs, and the 32 digits that static pods have instead.
func isUID(s string) bool {
	const uuid = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	if len(s) == len(uuid) {
		for i, c := range uuid {
			if (c == '-') != (s[i] == '-') {
				return false
			}
		}
		s = strings.ReplaceAll(s, "-", "")
	}
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}
