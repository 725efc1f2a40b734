// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// byPath returns the cgroup that a runtime or an operator named.
func (t *tree) byPath(value string) (candidate, error) {
	rels, err := pathVariants(t.mount.Path, value)
	if err != nil {
		return candidate{}, err
	}
	return t.firstUsable(rels)
}

// pathVariants returns the paths, relative to the mount, that value may stand
// for. The value as it is comes first: containerd passes the kubelet's path.
func pathVariants(mount, value string) ([]string, error) {
	// The kernel refuses to leave the mount, but a path that goes down and up
	// again is no path that a runtime makes either.
	if slices.Contains(strings.Split(value, "/"), "..") {
		return nil, fmt.Errorf("cgroup path %q contains %q", value, "..")
	}
	clean := path.Clean("/" + value)
	// Operators copy paths from what they see in the file system.
	if rest, ok := below(path.Clean(mount), clean); ok {
		clean = path.Clean("/" + rest)
	}
	if clean == "/" {
		return nil, fmt.Errorf("cgroup path %q %w", value, ErrRoot)
	}
	rels := []string{clean[1:]}
	if unit, ok := scopeOf(value); ok {
		rels = append(rels, unit)
	}
	// CRI-O with the systemd driver passes the last part of the path only.
	if strings.HasSuffix(clean, ".slice") {
		slice, err := expandSlice(path.Base(clean))
		if errors.Is(err, ErrRoot) {
			return nil, err
		}
		if err == nil && slice != rels[0] {
			rels = append(rels, slice)
		}
	}
	return rels, nil
}

// expandSlice returns the path of a systemd slice, which its name implies:
// "a-b.slice" is "a.slice/a-b.slice".
func expandSlice(name string) (string, error) {
	stem, ok := strings.CutSuffix(name, ".slice")
	if stem == "-" && ok {
		return "", fmt.Errorf("slice %q %w", name, ErrRoot)
	}
	parts := strings.Split(stem, "-")
	if !ok || strings.Contains(stem, "/") || slices.Contains(parts, "") {
		return "", fmt.Errorf("%q is not a valid slice name", name)
	}
	var b strings.Builder
	for i := range parts {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(strings.Join(parts[:i+1], "-") + ".slice")
	}
	return b.String(), nil
}

// scopeOf returns the path of the unit that "slice:prefix:name" stands for,
// the form of cgroupsPath in OCI runtime specifications for systemd.
func scopeOf(triple string) (string, bool) {
	w := strings.Split(triple, ":")
	if len(w) != 3 || w[2] == "" || strings.Contains(triple, "/") {
		return "", false
	}
	if w[0] == "" {
		w[0] = "system.slice" // what the OCI runtimes take for root
	}
	slice, err := expandSlice(w[0])
	if err != nil {
		return "", false
	}
	unit := w[2]
	if !strings.HasSuffix(unit, ".slice") {
		if w[1] != "" {
			unit = w[1] + "-" + unit
		}
		unit += ".scope"
	}
	return slice + "/" + unit, true
}
