// SPDX-License-Identifier: Apache-2.0

// Package root makes a disk image with a Debian system, for guests whose programs want one as their root. The
// image is made once for each list of packages, and using it needs no network.
package root

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/lock"
	"github.com/sockmap-cni/sockmap-cni/test/vm/kernel"
)

//go:embed packages.txt
var packageList string

//go:embed finish.sh
var finishScript string

const (
	suite = "bookworm"
	// format is raised when the same packages result in another image.
	format = "3"
	// makeLimit is long enough for a slow archive.
	makeLimit = 20 * time.Minute
	// mergedUsr are hooks of mmdebstrap that merge /usr as Debian does since version 12.
	mergedUsr = "/usr/share/mmdebstrap/hooks/merged-usr"
)

// Modules are the modules that a guest's kernel needs to mount the image with a layer above it, if they are
// not built in.
var Modules = []string{"virtio_pci", "virtio_blk", "ext4", "overlay"}

// tools are the tools that Image needs when the image is not in the cache.
var tools = []string{"mmdebstrap", "mkfs.ext4"}

// Image returns the path of the image in the cache at dir, and makes it if there is none for these packages.
// Several processes may call it at the same time. Guests must not write to it.
func Image(ctx context.Context, dir string, say func(format string, args ...any)) (string, error) {
	packages, err := kernel.ParseNames(strings.NewReader(packageList))
	if err != nil {
		return "", err
	}
	home := filepath.Join(dir, "roots")
	image := filepath.Join(home, name(packages))
	if _, err := os.Stat(image); !errors.Is(err, fs.ErrNotExist) {
		return image, err
	}
	if err := kernel.Need(tools...); err != nil {
		return "", err
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, makeLimit, fmt.Errorf("over its limit of %v", makeLimit))
	defer cancel()
	l, err := lock.Exclusive(ctx, home)
	if err != nil {
		return "", err
	}
	defer l.Unlock()
	if _, err := os.Stat(image); err == nil {
		return image, nil // another process has made it meanwhile
	}
	begin := time.Now()
	say("making a Debian root of %d packages and what they need", len(packages))
	if err := makeImage(ctx, home, image, packages); err != nil {
		return "", fmt.Errorf("make Debian root: %w", err)
	}
	say("made it in %.0f s", time.Since(begin).Seconds())
	return image, nil
}

// name identifies the contents of the image.
func name(packages []string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{format, suite, finishScript}, packages...), "\n")))
	return suite + "-" + hex.EncodeToString(sum[:8]) + ".ext4"
}

func makeImage(ctx context.Context, home, image string, packages []string) (err error) {
	work, err := os.MkdirTemp(home, "new-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeTree(work)) }()
	// Some files of packages that are set up do not belong to root.
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	tree, next := filepath.Join(work, "tree"), filepath.Join(work, "image")
	if err := install(ctx, tree, packages); err != nil {
		return err
	}
	size, err := sizeOf(tree)
	if err != nil {
		return err
	}
	// Not compressed: an emulated processor would take longer to unpack it than the host takes to read it. No
	// journal and no free blocks, as it is never written to.
	out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", "-d", tree,
		next,
		fmt.Sprintf("%dM", size>>20)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := os.Rename(next, image); err != nil {
		return err
	}
	return prune(home, image)
}

// install makes a tree of the packages. They are extracted but not set up: the scripts of some hundred
// packages would take a quarter of an hour, and start services. finish.sh does what programs would miss then.
func install(ctx context.Context, tree string, packages []string) error {
	sources, err := kernel.SourcesOf(ctx, suite, suite+"-security")
	if err != nil {
		return err
	}
	args := []string{
		"--variant=extract", "--mode=root", "--include=?essential", "--include=" + strings.Join(packages, ","),
		"--aptopt=APT::Install-Recommends \"false\"", "--hook-dir=" + mergedUsr,
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(append(args, suite, tree), sources.Lines...)...)
	alone(cmd)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, sources.Said(lastOf(said.String(), 40)))
	}
	out, err := finish(ctx, tree)
	if err != nil {
		return fmt.Errorf("finish.sh: %w: %s", err, lastOf(string(out), 40))
	}
	return nil
}

// finish mounts in its own mount namespace, as install does.
func finish(ctx context.Context, tree string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", finishScript, "finish.sh", tree)
	alone(cmd)
	return cmd.CombinedOutput()
}

// alone runs a command in its own namespaces. Otherwise a killed command would leave processes, and /proc,
// /sys and /dev mounted below the tree, which is removed then.
func alone(cmd *exec.Cmd) {
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
}

// removeTree refuses while anything is mounted below the tree, because it would remove files of other file
// systems.
func removeTree(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	if bytes.Contains(mounts, []byte(" "+dir+"/")) {
		return fmt.Errorf("remove %s: something is mounted below it", dir)
	}
	return os.RemoveAll(dir)
}

// lastOf is the last n lines of a text, where the errors are.
func lastOf(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// sizeOf is a generous size for a file system with the tree in it. The file is sparse, so free space costs
// nothing.
func sizeOf(tree string) (size int64, err error) {
	const block = 4096
	err = filepath.WalkDir(tree, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += (info.Size()+block-1)/block*block + block
		return nil
	})
	return size*5/4 + 64<<20, err
}

// prune removes the images that this one replaces. A running guest has its image open.
func prune(home, image string) error {
	others, err := filepath.Glob(filepath.Join(home, "*.ext4"))
	for _, other := range others {
		if other != image {
			err = errors.Join(err, os.Remove(other))
		}
	}
	return err
}
