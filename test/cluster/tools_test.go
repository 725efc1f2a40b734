// SPDX-License-Identifier: Apache-2.0

package cluster

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

// buildTimeout is enough for a slow machine that compiles Kubernetes for the first time.
const buildTimeout = 55 * time.Minute

// toolPackages come from the module tools, which pins their versions. The program of etcd is called server.
var toolPackages = []string{
	"go.etcd.io/etcd/server/v3",
	"helm.sh/helm/v4/cmd/helm",
	"k8s.io/kubernetes/cmd/kube-apiserver",
	"k8s.io/kubernetes/cmd/kube-controller-manager",
	"k8s.io/kubernetes/cmd/kube-proxy",
	"k8s.io/kubernetes/cmd/kube-scheduler",
	"k8s.io/kubernetes/cmd/kubectl",
	"k8s.io/kubernetes/cmd/kubelet",
}

// kubernetesModule is the module whose version the programs of Kubernetes get: Helm compares it with the
// requirement of the chart.
const kubernetesModule = "k8s.io/kubernetes"

// The versions of sockmap that are installed, in this order.
const (
	oldVersion = "v0.1.1"
	newVersion = "v0.1.2"
)

// Names of the images. They are imported, and no registry is used.
const (
	pauseImage      = "docker.io/local/pause:1"
	loadImage       = "docker.io/local/load:1"
	agentRepository = "docker.io/local/sockmap-cni"
)

// tools are the programs for all tests.
var tools struct {
	root       string // root of the repository
	cache      string // directory of this test
	bin        string // contains Kubernetes, etcd and Helm
	containerd string // contains containerd, its shim, ctr, crictl and pause
	plugins    string // contains the CNI plugins
	own        string // contains the load program, and a directory for each version of sockmap
	images     string // tar file with the images
}

// findTools only finds their paths.
func findTools() (err error) {
	if tools.root, err = lab.RepoRoot(); err != nil {
		return err
	}
	cache := filepath.Join(tools.root, ".cache")
	tools.cache = filepath.Join(cache, "cluster")
	tools.bin = filepath.Join(tools.cache, "bin")
	tools.own = filepath.Join(tools.cache, "own")
	tools.images = filepath.Join(tools.cache, "images.tar")
	tools.containerd = filepath.Join(cache, "containerd")
	tools.plugins = filepath.Join(cache, "lab")
	return nil
}

// setUpTools finds or builds all of them. Those that are up to date are not built again.
func setUpTools() error {
	if os.Geteuid() != 0 {
		return errors.New("root is needed")
	}
	if err := errors.Join(findTools(), findPrograms("runc", "iptables", "nft", "mount")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	start := time.Now()
	if _, err := os.Stat(filepath.Join(tools.bin, "kubelet")); err != nil {
		fmt.Fprintln(os.Stderr, "Building Kubernetes; this takes long the first time ...")
	}
	if err := build(ctx); err != nil {
		return err
	}
	if took := time.Since(start); took > time.Minute {
		fmt.Fprintf(os.Stderr, "Built in %s.\n", took.Round(time.Second))
	}
	return writeImages()
}

func findPrograms(names ...string) error {
	var missing []error
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, err)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w (test/setup.sh cluster installs them)", errors.Join(missing...))
	}
	return nil
}

func build(ctx context.Context) error {
	const module = "test/cluster/tools"
	version, err := moduleVersion(ctx, module)
	if err != nil {
		return err
	}
	values := map[string]string{"k8s.io/component-base/version.gitVersion": version}
	if err := lab.BuildModuleWith(ctx, tools.bin, module, values, toolPackages...); err != nil {
		return err
	}
	errs := []error{
		lab.BuildContainerd(ctx, tools.containerd),
		lab.BuildReference(ctx, tools.plugins),
		lab.BuildModule(ctx, tools.own, ".", "./test/cluster/load"),
	}
	for _, v := range []string{oldVersion, newVersion} {
		values := map[string]string{"github.com/sockmap-cni/sockmap-cni/pkg/version.version": v}
		dir := filepath.Join(tools.own, v)
		errs = append(errs, lab.BuildModuleWith(ctx, dir, ".", values, "./plugin/sockmap", "./plugin/sockmapctl"))
	}
	return errors.Join(errs...)
}

func moduleVersion(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", kubernetesModule)
	cmd.Dir = filepath.Join(tools.root, dir)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the version of %s: %w", kubernetesModule, err)
	}
	return string(out[:len(out)-1]), nil
}

func writeImages() error {
	images := []oci.Image{
		oci.Program(pauseImage, filepath.Join(tools.containerd, "pause")),
		oci.Program(loadImage, filepath.Join(tools.own, "load")),
	}
	for _, version := range []string{oldVersion, newVersion} {
		images = append(images, agentImage(version))
	}
	return oci.Write(tools.images, images...)
}

// agentImage is the image that conf/Dockerfile makes. test/packaging/image tests with buildah that it does.
func agentImage(version string) oci.Image {
	dir := filepath.Join(tools.own, version)
	return oci.Image{
		Name: agentRepository + ":" + version,
		Files: map[string]string{
			"usr/local/bin/sockmap":    filepath.Join(dir, "sockmap"),
			"usr/local/bin/sockmapctl": filepath.Join(dir, "sockmapctl"),
			"licenses/LICENSE":         filepath.Join(tools.root, "LICENSE"),
		},
		Config: oci.Config{
			User: "0:0", Entrypoint: []string{"/usr/local/bin/sockmapctl"}, Cmd: []string{"agent"},
			Labels: map[string]string{"org.opencontainers.image.version": version},
		},
	}
}
