// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
)

// daemon is a containerd, with its clients.
type daemon struct{ *crinode.Daemon }

var configTemplate = template.Must(template.New("config.toml").Parse(`version = 3
root = "{{.Dir}}/root"
state = "{{.Dir}}/state"

[grpc]
  address = "{{.Socket}}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{{.Pause}}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE, as inside many a virtual machine for tests, runc cannot lower the score.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{{.Runc}}"
      Root = "{{.Dir}}/runc"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{{.Dir}}/bin"]
    conf_dir = "{{.Dir}}/net.d"

[plugins."io.containerd.shim.v1.manager"]
  socket_dir = "{{.Dir}}/s"

[plugins."io.containerd.nri.v1.nri"]
  disable = true

[plugins."io.containerd.internal.v1.opt"]
  path = "{{.Dir}}/opt"
`))

// prepareDaemon writes the configuration of a containerd.
func prepareDaemon(t *testing.T, made *crinode.Daemon) *daemon {
	t.Helper()
	var config bytes.Buffer
	values := map[string]string{
		"Dir": made.Dir, "Socket": made.Socket(), "Pause": crinode.PauseImage, "Runc": containerd.Paths["runc"],
	}
	if err := configTemplate.Execute(&config, values); err != nil {
		t.Fatal(err)
	}
	made.WriteFiles(t, map[string][]byte{configFile: config.Bytes(), clientFile: nil})
	return &daemon{made}
}

// Names of the configuration files, of containerd and of the CRI's client.
const (
	configFile = "config.toml"
	clientFile = "crictl.yaml"
)

// begin starts it for the first time, until the end of the test, and imports the images.
func (d *daemon) begin(t *testing.T) {
	t.Helper()
	d.Begin(t)
	d.start(t)
	if _, err := d.output("ctr", "-a", d.Socket(), "-n", "k8s.io", "images", "import", "--local",
		"--snapshotter", "native", containerd.Images); err != nil {
		t.Fatal(err)
	}
}

// start starts it, for the first time or again, and waits until it answers.
func (d *daemon) start(t *testing.T) {
	t.Helper()
	d.Start(t, func() bool {
		info, err := d.info()
		return err == nil && info.ready("RuntimeReady")
	}, "PATH="+containerd.Dir+":"+os.Getenv("PATH"), "--config", filepath.Join(d.Dir, configFile))
}

// patience bounds each call.
const patience = 90 * time.Second

// output runs one of the tools and returns its output.
func (d *daemon) output(tool string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(containerd.Dir, tool), args...)
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// crictl runs a command of the CRI's client.
func (d *daemon) crictl(args ...string) ([]byte, error) {
	endpoint := "unix://" + d.Socket()
	return d.output("crictl", append([]string{
		"--config", filepath.Join(d.Dir, clientFile), "--runtime-endpoint", endpoint, "--image-endpoint", endpoint,
		"--timeout", "60s",
	}, args...)...)
}

// inspect runs a command of crictl that prints JSON.
func (d *daemon) inspect(into any, args ...string) error {
	out, err := d.crictl(args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("crictl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// runtimeInfo has the fields of `crictl info` that the tests need.
type runtimeInfo struct {
	Status struct {
		Conditions []struct {
			Type    string
			Status  bool
			Reason  string
			Message string
		}
	}
	CNIConfig struct {
		Networks []struct{ Config struct{ Source string } }
	}
}

func (d *daemon) info() (info runtimeInfo, err error) {
	err = d.inspect(&info, "info", "-o", "json")
	return info, err
}

func (i runtimeInfo) ready(condition string) bool {
	for _, c := range i.Status.Conditions {
		if c.Type == condition {
			return c.Status
		}
	}
	return false
}

// source is the text of the conflist that is in use.
func (i runtimeInfo) source() string {
	var all []string
	for _, n := range i.CNIConfig.Networks {
		all = append(all, n.Config.Source)
	}
	return strings.Join(all, "\n")
}
