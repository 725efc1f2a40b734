// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const module = "github.com/sockmap-cni/sockmap-cni"

// The reference plugins, of the module test/tools, which pins their version.
var referencePlugins = []string{"ipam/host-local", "main/bridge", "main/loopback", "main/ptp", "meta/portmap",
	"meta/tuning"}

// RepoRoot is the directory of this module's go.mod, at or above the working
// directory.
func RepoRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(b, []byte("module "+module+"\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find repository: no go.mod of %s at or above %s", module, start)
		}
	}
}

// BuildPlugins builds sockmap, sockmapctl and what BuildReference does into dir.
func BuildPlugins(ctx context.Context, dir string) error {
	if err := BuildReference(ctx, dir); err != nil {
		return err
	}
	return BuildModule(ctx, dir, ".", "./plugin/sockmap", "./plugin/sockmapctl")
}

// BuildReference builds the reference plugins and the traffic program into dir, statically, as BuildPlugins
// does. Programs that are up to date are not built again, so tests can share a directory.
func BuildReference(ctx context.Context, dir string) error {
	var reference []string
	for _, p := range referencePlugins {
		reference = append(reference, "github.com/containernetworking/plugins/plugins/"+p)
	}
	if err := BuildModule(ctx, dir, "test/tools", reference...); err != nil {
		return err
	}
	return BuildModule(ctx, dir, ".", "./test/lab/cmd/traffic")
}

// containerdPackages come from the module test/e2e/containerd/tools, which pins their versions.
var containerdPackages = []string{
	"github.com/containerd/containerd/v2/cmd/containerd",
	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
	"github.com/containerd/containerd/v2/cmd/ctr",
	"sigs.k8s.io/cri-tools/cmd/crictl",
}

// BuildContainerd builds containerd, its shim, ctr, crictl and the pause program
// into dir, as BuildPlugins does. It takes minutes the first time.
func BuildContainerd(ctx context.Context, dir string) error {
	if err := BuildModule(ctx, dir, "test/e2e/containerd/tools", containerdPackages...); err != nil {
		return err
	}
	return BuildModule(ctx, dir, ".", "./test/e2e/containerd/pause")
}

// BuildModule builds packages of the module at path in the repository into dir,
// as BuildPlugins does.
func BuildModule(ctx context.Context, dir, path string, packages ...string) error {
	return BuildModuleWith(ctx, dir, path, nil, packages...)
}

// BuildModuleWith is BuildModule for packages that get values, such as their version, from the linker. The
// keys of values are the names of the variables.
func BuildModuleWith(ctx context.Context, dir, path string, values map[string]string,
	packages ...string) error {
	flags := "-ldflags=-s -w"
	for _, name := range slices.Sorted(maps.Keys(values)) {
		flags += " -X " + name + "=" + values[name]
	}
	return buildModule(ctx, dir, path, []string{flags}, packages)
}

// BuildModuleTagged is BuildModule for packages that need build tags.
func BuildModuleTagged(ctx context.Context, dir, path string, tags []string, packages ...string) error {
	return buildModule(ctx, dir, path, []string{"-ldflags=-s -w", "-tags=" + strings.Join(tags, ",")}, packages)
}

func buildModule(ctx context.Context, dir, path string, flags, packages []string) error {
	root, err := RepoRoot()
	if err != nil {
		return err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("make directory for plugins: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory for plugins: %w", err)
	}
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	args := append([]string{"build", "-C", filepath.Join(root, path), "-trimpath", "-o", dir + "/"}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w:\n%s", strings.Join(packages, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// lockDir prevents other processes from building into dir at the same time.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	locked := make(chan error, 1)
	go func() { locked <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err = <-locked:
	case <-ctx.Done():
		err = context.Cause(ctx)
		go func() { <-locked; _ = f.Close() }()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { _ = f.Close() }, nil
}
