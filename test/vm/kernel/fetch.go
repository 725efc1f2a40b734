// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
)

// Cache is a directory of kernels, by name and version. Several processes may use it at the same time.
type Cache struct {
	Dir string
}

// Cached returns the kernel that was fetched last. The error is fs.ErrNotExist if there is none.
func (c Cache) Cached(w Wanted) (Kernel, error) {
	data, err := os.ReadFile(c.record(w))
	if err != nil {
		return Kernel{}, fmt.Errorf("find cached kernel %s: %w", w.Name, err)
	}
	k := Kernel{Wanted: w}
	if err := json.Unmarshal(data, &k); err != nil {
		return k, fmt.Errorf("read %s: %w", c.record(w), err)
	}
	// The cache may have been moved, so the record does not contain its path.
	k.Dir = filepath.Join(c.Dir, "kernels", w.Name, k.Version)
	if _, err := os.Stat(k.Image()); err != nil {
		return k, fmt.Errorf("find cached kernel %s: %w", w.Name, err)
	}
	return k, nil
}

func (c Cache) record(w Wanted) string {
	return filepath.Join(c.Dir, "kernels", w.Name, "kernel.json")
}

// fetchTools are the tools that Fetch needs.
var fetchTools = []string{"apt-get", "dpkg-deb", "depmod", keyring}

// Need checks for tools, as the function Need does, and also for Fetch's tools if a kernel is not in the
// cache.
func (c Cache) Need(kernels []Wanted, tools ...string) error {
	for _, w := range kernels {
		if _, err := c.Cached(w); err != nil {
			return Need(slices.Concat(tools, fetchTools)...)
		}
	}
	return Need(tools...)
}

// Get returns the cached kernel, or fetches it if there is none.
func (c Cache) Get(ctx context.Context, w Wanted) (Kernel, error) {
	k, err := c.Cached(w)
	if errors.Is(err, fs.ErrNotExist) {
		return c.Fetch(ctx, w)
	}
	return k, err
}

// Fetch puts the archive's newest version of the kernel into the cache, if it is not there, and returns it.
func (c Cache) Fetch(ctx context.Context, w Wanted) (Kernel, error) {
	if err := Need(fetchTools...); err != nil {
		return Kernel{}, err
	}
	home := filepath.Join(c.Dir, "kernels", w.Name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return Kernel{}, fmt.Errorf("make cache: %w", err)
	}
	l, err := lock.Exclusive(ctx, home)
	if err != nil {
		return Kernel{}, err
	}
	defer l.Unlock()
	k, err := c.fetchLocked(ctx, w, home)
	if err != nil {
		return k, fmt.Errorf("fetch kernel %s: %w", w.Name, err)
	}
	return k, nil
}

func (c Cache) fetchLocked(ctx context.Context, w Wanted, home string) (Kernel, error) {
	a, err := openArchive(ctx, filepath.Join(c.Dir, "apt", w.Name), w.Arch, w.Suites)
	if err != nil {
		return Kernel{}, err
	}
	meta, err := newest(ctx, a, w)
	if err != nil {
		return Kernel{}, err
	}
	if k, err := c.Cached(w); err == nil && k.Version == meta.version {
		return k, nil
	}
	packages, err := closure(ctx, a, meta)
	if err != nil {
		return Kernel{}, err
	}
	dir, err := os.MkdirTemp(home, "new-")
	if err != nil {
		return Kernel{}, err
	}
	defer os.RemoveAll(dir)
	k := Kernel{Wanted: w, Version: meta.version, Dir: dir}
	if err := k.install(ctx, a, packages); err != nil {
		return k, err
	}
	return k, c.publish(&k)
}

// publish moves the kernel to its final place. The record is written last: without it the kernel does not
// count.
func (c Cache) publish(k *Kernel) error {
	place := filepath.Join(c.Dir, "kernels", k.Name, k.Version)
	if err := os.RemoveAll(place); err != nil {
		return err
	}
	if err := os.Rename(k.Dir, place); err != nil {
		return err
	}
	k.Dir = place
	data, err := json.Marshal(struct{ Version, Release string }{k.Version, k.Release})
	if err != nil {
		return err
	}
	next := c.record(k.Wanted) + ".new"
	if err := os.WriteFile(next, data, 0o644); err != nil {
		return err
	}
	if err := os.Rename(next, c.record(k.Wanted)); err != nil {
		return err
	}
	return c.prune(*k)
}

// prune removes the kernels that this one replaces. A running guest has read all of its kernel.
func (c Cache) prune(k Kernel) error {
	others, err := filepath.Glob(filepath.Join(filepath.Dir(k.Dir), "*", "vmlinuz"))
	for _, image := range others {
		if dir := filepath.Dir(image); dir != k.Dir {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// newest finds the metapackage's newest version of the line.
func newest(ctx context.Context, a *archive, w Wanted) (stanza, error) {
	all, err := a.show(ctx, w.Package)
	if err != nil {
		return stanza{}, err
	}
	var others []string
	for _, s := range all {
		if w.fits(s.version) {
			return s, nil
		}
		others = append(others, s.version)
	}
	return stanza{},
		fmt.Errorf("find %s %s in %s: there is only %s (the archive has moved on: change kernels.txt)",
			w.Package, w.Line, strings.Join(w.Suites, ", "), strings.Join(others, ", "))
}

// parts are the packages that contain a kernel. Newer kernels are split: image -> binary, base, modules.
var parts = []string{"linux-image-", "linux-binary-", "linux-base-", "linux-modules-"}

// closure follows a metapackage to all packages that contain parts of the kernel, as "NAME=VERSION".
func closure(ctx context.Context, a *archive, meta stanza) ([]string, error) {
	var found []string
	seen := map[string]bool{meta.name: true}
	queue := []stanza{meta}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		for _, d := range s.depends {
			if seen[d.name] || !isPart(d.name) {
				continue
			}
			seen[d.name] = true
			next, err := pick(ctx, a, d)
			if err != nil {
				return nil, err
			}
			found = append(found, next.name+"="+next.version)
			queue = append(queue, next)
		}
	}
	return found, nil
}

func isPart(name string) bool {
	for _, prefix := range parts {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func pick(ctx context.Context, a *archive, d dependency) (stanza, error) {
	all, err := a.show(ctx, d.name)
	if err != nil {
		return stanza{}, err
	}
	for _, s := range all {
		if d.version == "" || s.version == d.version {
			return s, nil
		}
	}
	return stanza{}, fmt.Errorf("find package %s %s: not in the archive", d.name, d.version)
}

// install downloads and unpacks into k.Dir, keeping the bootable file and the modules.
func (k *Kernel) install(ctx context.Context, a *archive, packages []string) error {
	debs, root := filepath.Join(k.Dir, "debs"), filepath.Join(k.Dir, "root")
	for _, dir := range []string{debs, root} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := a.download(ctx, debs, packages); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range files {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, root).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, out)
		}
	}
	if err := k.arrange(root); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "depmod", "-b", k.Dir, k.Release).CombinedOutput(); err != nil {
		return fmt.Errorf("list module dependencies: %w: %s", err, out)
	}
	return errors.Join(os.RemoveAll(debs), os.RemoveAll(root))
}

// arrange moves the files that are kept to one place, because releases differ in their paths.
func (k *Kernel) arrange(root string) error {
	image, err := only(root, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz")
	if err != nil {
		return err
	}
	if err := os.Rename(image, k.Image()); err != nil {
		return err
	}
	modules, err := only(root, "usr/lib/modules/*", "lib/modules/*")
	if err != nil {
		return err
	}
	k.Release = filepath.Base(modules)
	if err := os.MkdirAll(filepath.Join(k.Dir, "lib", "modules"), 0o755); err != nil {
		return err
	}
	// depmod looks in lib or in usr/lib, depending on its build.
	if err := os.Symlink(".", filepath.Join(k.Dir, "usr")); err != nil {
		return err
	}
	return os.Rename(modules, k.modules())
}

// only returns the one file below root that matches the first of the patterns that matches any.
func only(root string, patterns ...string) (string, error) {
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", err
		}
		switch len(files) {
		case 0:
		case 1:
			return files[0], nil
		default:
			return "", fmt.Errorf("find %s in the packages: %d files", pattern, len(files))
		}
	}
	return "", fmt.Errorf("find %s in the packages: none", strings.Join(patterns, " or "))
}
