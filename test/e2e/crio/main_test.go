// SPDX-License-Identifier: Apache-2.0

// Package crio runs the real CRI-O, conmon and runc, and asks for pods as the kubelet does, by the CRI. Pods
// run before sockmap is added to the list of their network, and are adopted by the data that CRI-O has of
// them. Real programs in the containers exchange bytes that both ends compare, and the data path counts which
// way they took.
//
// It needs root, conmon, runc and gcc (test/setup.sh crio); CRI-O is built from the module tools the first
// time. No image comes from a registry.
package crio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/oci"
)

// The module tools pins the version of CRI-O.
const (
	toolsModule = "test/e2e/crio/tools"
	crioModule  = "github.com/cri-o/cri-o"
)

// tags leave out the parts that need C libraries.
var tags = []string{"containers_image_openpgp", "exclude_graphdriver_btrfs"}

var crio = &crinode.Runtime{
	Name:     "CRI-O",
	Daemon:   "crio",
	Programs: []string{"conmon", "runc"},
	Subnets: []netip.Prefix{
		netip.MustParsePrefix("10.63.0.0/24"), netip.MustParsePrefix("fd5c:1f0e:63a0::/64"),
	},
	Build:       build,
	WriteImages: oci.WriteDocker,
	Row: crinode.Row{
		Dir:     "crio/rows",
		Runtime: "CRI-O itself, pods adopted",
		Facts:   []string{"adopted", "annotations", "restart", "removed"},
		Version: version,
	},
}

func TestMain(m *testing.M) { crio.Main(m) }

// build builds CRI-O, pinns and the pause program.
func build(ctx context.Context, dir string) error {
	if err := lab.BuildModuleTagged(ctx, dir, toolsModule, tags, crioModule+"/cmd/crio"); err != nil {
		return err
	}
	if err := buildPinns(ctx, dir); err != nil {
		return err
	}
	return lab.BuildModule(ctx, dir, ".", "./test/e2e/containerd/pause")
}

// buildPinns compiles the C program by which CRI-O makes namespaces, from the sources in its module. It takes
// a second.
func buildPinns(ctx context.Context, into string) error {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	module := filepath.Join(root, toolsModule)
	list := exec.CommandContext(ctx, "go", "list", "-C", module, "-m", "-f", "{{.Dir}}", crioModule)
	list.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	dir, err := list.Output()
	if err != nil {
		return fmt.Errorf("find the module of CRI-O: %w", err)
	}
	sources, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "pinns", "src", "*.c"))
	if err != nil || len(sources) == 0 {
		return errors.Join(err, fmt.Errorf("no sources of pinns in %s", bytes.TrimSpace(dir)))
	}
	args := append([]string{"-std=c99", "-O2", "-static", "-s", "-o", filepath.Join(into, "pinns")}, sources...)
	if text, err := exec.CommandContext(ctx, "gcc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build pinns: %w:\n%s", err, text)
	}
	return nil
}

// version has the versions of CRI-O, conmon and runc, as they print them.
func version(r *crinode.Runtime) (string, error) {
	var said []string
	var errs []error
	for _, program := range []string{filepath.Join(r.Dir, "crio"), r.Paths["conmon"], r.Paths["runc"]} {
		out, err := exec.Command(program, "--version").Output()
		first, _, _ := strings.Cut(string(out), "\n")
		said, errs = append(said, strings.Replace(first, " version ", " ", 1)), append(errs, err)
	}
	return strings.Join(said, ", "), errors.Join(errs...)
}
