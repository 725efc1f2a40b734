// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/oci"
)

// buildTimeout is enough for a slow machine that compiles CRI-O for the first time.
const buildTimeout = 25 * time.Minute

// The module tools pins the version of CRI-O.
const (
	toolsModule = "test/e2e/crio/tools"
	crioModule  = "github.com/cri-o/cri-o"
)

// tags leave out the parts that need C libraries.
var tags = []string{"containers_image_openpgp", "exclude_graphdriver_btrfs"}

// Names of the images. CRI-O pulls them from a file, and no registry is used.
const (
	pauseImage   = "docker.io/local/pause:1"
	trafficImage = "docker.io/local/traffic:1"
)

// tools are the programs for all tests.
var tools struct {
	dir          string // contains crio and pinns
	plugins      string // contains the CNI plugins and the traffic program
	conmon, runc string
	images       string // tar file with the images
}

// setUpTools finds or builds all of them. Those that are up to date are not built again.
func setUpTools() (err error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	for name, path := range map[string]*string{"conmon": &tools.conmon, "runc": &tools.runc} {
		if *path, err = exec.LookPath(name); err != nil {
			return fmt.Errorf("%w (test/setup.sh crio installs it)", err)
		}
	}
	tools.plugins = filepath.Join(root, ".cache", "lab")
	tools.dir = filepath.Join(root, ".cache", "crio")
	tools.images = filepath.Join(tools.dir, "images.tar")
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	if _, err := os.Stat(filepath.Join(tools.dir, "crio")); err != nil {
		fmt.Fprintln(os.Stderr, "Building CRI-O; this takes some minutes the first time ...")
	}
	start := time.Now()
	if err := lab.BuildModuleTagged(ctx, tools.dir, toolsModule, tags, crioModule+"/cmd/crio"); err != nil {
		return err
	}
	if err := buildPinns(ctx, filepath.Join(root, toolsModule)); err != nil {
		return err
	}
	if took := time.Since(start); took > time.Minute {
		fmt.Fprintf(os.Stderr, "Built in %s.\n", took.Round(time.Second))
	}
	if err := lab.BuildPlugins(ctx, tools.plugins); err != nil {
		return err
	}
	if err := lab.BuildModule(ctx, tools.dir, ".", "./test/e2e/containerd/pause"); err != nil {
		return err
	}
	return oci.WriteDocker(tools.images,
		oci.Program(pauseImage, filepath.Join(tools.dir, "pause")),
		oci.Program(trafficImage, filepath.Join(tools.plugins, "traffic")))
}

// buildPinns compiles the C program by which CRI-O makes namespaces, from the sources in its module. It takes
// a second.
func buildPinns(ctx context.Context, module string) error {
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
	out := filepath.Join(tools.dir, "pinns")
	args := append([]string{"-std=c99", "-O2", "-static", "-s", "-o", out}, sources...)
	if text, err := exec.CommandContext(ctx, "gcc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build pinns: %w:\n%s", err, text)
	}
	return nil
}
