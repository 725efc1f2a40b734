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

// pathVariants returns the paths, relative to the mount, that value may mean. The value itself comes first:
// containerd passes the path of the kubelet.
func pathVariants(mount, value string) ([]string, error) {
	// The kernel does not let a path leave the mount, but no runtime passes ".." either.
	if slices.Contains(strings.Split(value, "/"), "..") {
		return nil, fmt.Errorf("cgroup path %q contains %q", value, "..")
	}
	clean := path.Clean("/" + value)
	// Operators copy paths from the file system.
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
	// CRI-O with the systemd driver passes only the last part of the path.
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

// expandSlice returns the path of a systemd slice, which its name implies: "a-b.slice" is
// "a.slice/a-b.slice".
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

// scopeOf returns the path of the unit "slice:prefix:name", the form of cgroupsPath in OCI specifications
// with systemd.
func scopeOf(triple string) (string, bool) {
	w := strings.Split(triple, ":")
	if len(w) != 3 || w[2] == "" || strings.Contains(triple, "/") {
		return "", false
	}
	if w[0] == "" {
		w[0] = "system.slice" // the root, for OCI runtimes
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
