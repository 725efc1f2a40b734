// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/test/vm/frame"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

// image is what all guests of one run have in common: a tree of files, and the archive of it. The archive is
// not compressed: an emulated processor would take longer to unpack it than the host takes to read it.
type image struct {
	repo  string
	arch  string // architecture of all programs, as Go names it
	dir   string // working directory, which the caller removes
	specs []spec
}

func (im image) tree() string   { return filepath.Join(im.dir, "tree") }
func (im image) common() string { return filepath.Join(im.dir, "common.cpio") }

// makeImage builds all programs, once for all kernels of an architecture. dir is an empty directory.
func makeImage(ctx context.Context, repo, dir, arch string, specs []spec) (image, error) {
	im := image{repo: repo, arch: arch, dir: dir, specs: specs}
	if err := im.build(ctx, "build", "./test/vm/init", "/init"); err != nil {
		return im, err
	}
	// Programs find the root of the repository by this file.
	if err := im.add(filepath.Join(repo, "go.mod"), sourceRoot+"/go.mod"); err != nil {
		return im, err
	}
	// For os/user, for servers that run as nobody, and for programs that look up localhost.
	if err := im.write("/etc/passwd",
		"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"); err != nil {
		return im, err
	}
	if err := im.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n"); err != nil {
		return im, err
	}
	if err := im.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"); err != nil {
		return im, err
	}
	for _, s := range specs {
		if err := im.addProgram(ctx, s); err != nil {
			return im, fmt.Errorf("pack %s: %w", s.Name, err)
		}
	}
	return im, archiveTree(ctx, im.tree(), im.common())
}

// initrd makes the part that belongs to one kernel (modules, manifest) and returns the path of the whole: the
// kernel reads concatenated archives as one archive. The manifest has the programs of the image that this
// kernel runs.
func (im image) initrd(ctx context.Context, k kernel.Kernel, modules []string) (string, error) {
	own := filepath.Join(im.dir, k.Name)
	dir := filepath.Join(own, "vm", "modules")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	files, err := k.PackModules(modules, dir)
	if err != nil {
		return "", err
	}
	var m frame.Manifest
	for _, file := range files {
		m.Modules = append(m.Modules, "/vm/modules/"+file)
	}
	for _, s := range programsOf(k.Wanted, im.specs) {
		m.Programs = append(m.Programs, s.program(true))
	}
	data, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(own, frame.ManifestPath), data, 0o644); err != nil {
		return "", err
	}
	if err := archiveTree(ctx, own, own+".cpio"); err != nil {
		return "", err
	}
	return own + ".initrd", concatenate(own+".initrd", im.common(), own+".cpio")
}

func (im image) addProgram(ctx context.Context, s spec) error {
	program := s.program(true)
	if err := os.MkdirAll(filepath.Join(im.tree(), program.Dir), 0o755); err != nil {
		return err
	}
	for guest, pkg := range s.Binaries {
		if err := im.build(ctx, "build", pkg, guest); err != nil {
			return err
		}
	}
	for _, pattern := range s.Files {
		if err := im.addFiles(pattern); err != nil {
			return err
		}
	}
	for _, tool := range s.Tools {
		if err := im.addTool(ctx, tool, ""); err != nil {
			return err
		}
	}
	switch {
	case s.Test != "":
		return im.build(ctx, "test", s.Test, program.Path)
	case s.Main != "":
		return im.build(ctx, "build", s.Main, program.Path)
	}
	return im.addTool(ctx, s.Path, program.Path)
}

// build makes a static program of a package, by "build" or "test -c", at the path in the guest.
func (im image) build(ctx context.Context, verb, pkg, guest string) error {
	module, inside := moduleOf(im.repo, pkg)
	args := []string{verb, "-C", module, "-ldflags=-s -w", "-o", filepath.Join(im.tree(), guest)}
	if verb == "test" {
		args = append(args, "-c")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, inside)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+im.arch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, bytes.TrimSpace(out))
	}
	// For a package without tests "go test -c" prints a message and exits with 0.
	if _, err := os.Stat(filepath.Join(im.tree(), guest)); err != nil {
		return fmt.Errorf("build %s: it has no tests", pkg)
	}
	return nil
}

// moduleOf splits a package of the repository, such as "./test/bench", into the directory of its module and
// the package's name in that module.
func moduleOf(repo, pkg string) (module, inside string) {
	for dir := filepath.Join(repo, pkg); dir != repo; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, "." + strings.TrimPrefix(filepath.Join(repo, pkg), dir)
		}
		if dir == filepath.Dir(dir) { // pkg is not below repo
			break
		}
	}
	return repo, pkg
}

func (im image) addFiles(pattern string) error {
	found, err := filepath.Glob(filepath.Join(im.repo, pattern))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("find files %q: none match (%v)", pattern, err)
	}
	for _, file := range found {
		err := filepath.WalkDir(file, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(im.repo, path)
			if err != nil {
				return err
			}
			return im.add(path, filepath.Join(sourceRoot, name))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addTool packs an executable of this machine with the libraries that it is linked with, at their own paths.
func (im image) addTool(ctx context.Context, name, guest string) error {
	file, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	if guest == "" {
		guest = file
	}
	if err := im.add(file, guest); err != nil {
		return err
	}
	if err := kernel.Need("ldd"); err != nil {
		return err
	}
	// ldd fails for static programs, which need no libraries.
	out, err := exec.CommandContext(ctx, "ldd", file).Output()
	if err != nil {
		return nil
	}
	for _, library := range libraries(string(out)) {
		if err := im.add(library, library); err != nil {
			return err
		}
	}
	return nil
}

// libraries finds the paths in the output of ldd: "libc.so.6 => /lib/.../libc.so.6 (0x...)" or "/lib64/ld-...
// (0x...)".
func libraries(ldd string) (paths []string) {
	for word := range strings.FieldsSeq(ldd) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	return paths
}

func (im image) write(guest, text string) error {
	to := filepath.Join(im.tree(), guest)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, []byte(text), 0o644)
}

// add copies a file, following links, with its mode.
func (im image) add(file, guest string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	to := filepath.Join(im.tree(), guest)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

// archiveTree makes the kind of archive that the kernel unpacks, with cpio, which every distribution has for
// its own initramfs.
func archiveTree(ctx context.Context, dir, to string) error {
	var names bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names.WriteString(name + "\x00")
		return err
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("make initramfs: %w", err)
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "cpio", "--create", "--null", "--format=newc", "--owner=0:0", "--quiet")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, &names, out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make initramfs: cpio: %w", err)
	}
	return out.Close()
}

func concatenate(to string, parts ...string) error {
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("make initramfs: %w", err)
	}
	defer out.Close()
	for _, part := range parts {
		in, err := os.Open(part)
		if err != nil {
			return fmt.Errorf("make initramfs: %w", err)
		}
		_, err = io.Copy(out, in)
		in.Close()
		if err != nil {
			return fmt.Errorf("make initramfs: %w", err)
		}
	}
	return out.Close()
}
