// SPDX-License-Identifier: Apache-2.0

// Package crinode makes nodes of the lab on which a real runtime is asked for pods by the CRI, for the tests
// of containerd and of CRI-O. It builds the runtime, starts and stops it, records its calls of the plugin,
// counts which way bytes between containers took, and writes the runtime's row of docs/RUNTIMES.md. The tests
// of a runtime configure it, and make pods with its client.
package crinode

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/row"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/oci"
	"github.com/sockmap-cni/sockmap-cni/test/lab/podcgroup"
)

// buildTimeout is enough for a slow machine that compiles a runtime for the first time.
const buildTimeout = 25 * time.Minute

// Names of the images. They are read from a file, and no registry is used.
const (
	PauseImage   = "docker.io/local/pause:1"
	TrafficImage = "docker.io/local/traffic:1"
)

// Runtime is the runtime of a package of tests.
type Runtime struct {
	Name     string   // in messages
	Daemon   string   // its program, its directory below .cache, and its word for test/setup.sh
	Programs []string // programs of Debian that the tests run
	Subnets  []netip.Prefix

	// Build builds the daemon and the pause program into a directory. Those that are up to date are not built
	// again.
	Build func(ctx context.Context, dir string) error
	// WriteImages writes images to a tar file, in a format that the runtime reads.
	WriteImages func(file string, images ...oci.Image) error
	Row         Row

	// Main sets the rest.
	Dir     string            // contains what Build has built
	Plugins string            // contains the CNI plugins and the traffic program
	Images  string            // tar file with the images
	Paths   map[string]string // of Programs
	cache   string            // cache of the repository
}

// Main is TestMain: it finds or builds all programs, runs the tests, and fails if they leave something
// behind. Then it writes the row.
func (r *Runtime) Main(m *testing.M) {
	if err := r.setUp(); err != nil {
		fmt.Fprintf(os.Stderr, "The tests of %s cannot run: %v\n", r.Name, err)
		os.Exit(1)
	}
	// That of an earlier run.
	if err := row.Remove(r.rowDir(), r.Daemon); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err := podcgroup.Reap(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	podcgroup.RemoveMadeParents()
	code := labtest.Run(m)
	podcgroup.RemoveMadeParents()
	left := lab.RuntimeResidue(lab.Prefix + labtest.Name())
	cgroups, err := podcgroup.OfPods(podcgroup.OwnUIDs())
	if left = append(left, cgroups...); err != nil || len(left) > 0 {
		fmt.Fprintf(os.Stderr, "left behind: %v\n%s\n", err, strings.Join(left, "\n"))
		code = max(code, 1)
	}
	if err := r.writeRow(code); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func (r *Runtime) setUp() error {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	if err := r.find(); err != nil {
		return err
	}
	r.cache = filepath.Join(root, ".cache")
	r.Plugins, r.Dir = filepath.Join(r.cache, "lab"), filepath.Join(r.cache, r.Daemon)
	r.Images = filepath.Join(r.Dir, "images.tar")
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	if _, err := os.Stat(filepath.Join(r.Dir, r.Daemon)); err != nil {
		fmt.Fprintf(os.Stderr, "Building %s; this takes some minutes the first time ...\n", r.Name)
	}
	start := time.Now()
	if err := r.Build(ctx, r.Dir); err != nil {
		return err
	}
	if took := time.Since(start); took > time.Minute {
		fmt.Fprintf(os.Stderr, "Built in %s.\n", took.Round(time.Second))
	}
	if err := lab.BuildPlugins(ctx, r.Plugins); err != nil {
		return err
	}
	return r.WriteImages(r.Images,
		oci.Program(PauseImage, filepath.Join(r.Dir, "pause")),
		oci.Program(TrafficImage, filepath.Join(r.Plugins, "traffic")))
}

// find looks for the programs of Debian. The error names all that are missing.
func (r *Runtime) find() error {
	r.Paths = map[string]string{}
	var missing []error
	for _, name := range r.Programs {
		path, err := exec.LookPath(name)
		if err != nil {
			missing = append(missing, err)
		}
		r.Paths[name] = path
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w (test/setup.sh %s installs it)", errors.Join(missing...), r.Daemon)
	}
	return nil
}
