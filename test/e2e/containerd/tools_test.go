// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/oci"
)

// buildTimeout is enough for a slow machine that compiles containerd for the first time.
const buildTimeout = 25 * time.Minute

// Names of the images. They are imported, and no registry is used.
const (
	pauseImage   = "docker.io/local/pause:1"
	trafficImage = "docker.io/local/traffic:1"
)

// tools are the programs for all tests.
var tools struct {
	dir     string // contains containerd, its shim, ctr and crictl
	plugins string // contains the CNI plugins and the traffic program
	runc    string
	images  string // tar file with the images
	cache   string // cache of the repository
}

// setUpTools finds or builds all of them. Those that are up to date are not built again.
func setUpTools() error {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	if tools.runc, err = findPrograms("runc", "unshare"); err != nil {
		return err
	}
	tools.cache = filepath.Join(root, ".cache")
	tools.plugins = filepath.Join(tools.cache, "lab")
	tools.dir = filepath.Join(tools.cache, "containerd")
	tools.images = filepath.Join(tools.dir, "images.tar")
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	if _, err := os.Stat(filepath.Join(tools.dir, "crictl")); err != nil {
		fmt.Fprintln(os.Stderr, "Building containerd and crictl; this takes some minutes the first time ...")
	}
	start := time.Now()
	if err := lab.BuildContainerd(ctx, tools.dir); err != nil {
		return err
	}
	if took := time.Since(start); took > time.Minute {
		fmt.Fprintf(os.Stderr, "Built in %s.\n", took.Round(time.Second))
	}
	if err := lab.BuildPlugins(ctx, tools.plugins); err != nil {
		return err
	}
	return oci.Write(tools.images,
		oci.Program(pauseImage, filepath.Join(tools.dir, "pause")),
		oci.Program(trafficImage, filepath.Join(tools.plugins, "traffic")))
}

// findPrograms returns the path of the first program, and an error if any is missing.
func findPrograms(names ...string) (first string, err error) {
	var missing []error
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			missing = append(missing, err)
		} else if first == "" {
			first = path
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("%w (test/setup.sh containerd installs it)", errors.Join(missing...))
	}
	return first, nil
}
