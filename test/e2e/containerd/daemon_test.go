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

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// daemon is a containerd with its own directories, in the network namespace of a node of the lab: bridges and
// rules are made there, and disappear with it.
type daemon struct {
	node   *lab.Node
	dir    string // directory of all files below, removed with the node
	cmd    *exec.Cmd
	exited chan error
	log    *os.File
}

var configTemplate = template.Must(template.New("config.toml").Parse(`version = 3
root = "{{.Dir}}/root"
state = "{{.Dir}}/state"

[grpc]
  address = "{{.Dir}}/c.sock"

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

// prepareDaemon makes the directories and the configuration of a containerd on the node.
func prepareDaemon(t *testing.T, node *lab.Node) *daemon {
	t.Helper()
	d := &daemon{node: node, dir: filepath.Join(node.Dir(), "c")}
	for _, sub := range []string{"bin", "net.d", "logs"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var config bytes.Buffer
	values := map[string]string{"Dir": d.dir, "Pause": pauseImage, "Runc": tools.runc}
	if err := configTemplate.Execute(&config, values); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{d.configFile(): config.Bytes(), d.dir + "/crictl.yaml": nil} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// begin starts it for the first time, until the end of the test, and imports the images.
func (d *daemon) begin(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	d.log = log
	t.Cleanup(func() { d.end(t) })
	d.start(t)
	d.run(t, "ctr", "-a", d.socket(), "-n", "k8s.io", "images", "import", "--local", "--snapshotter", "native",
		tools.images)
}

func (d *daemon) configFile() string { return filepath.Join(d.dir, "config.toml") }

func (d *daemon) socket() string { return filepath.Join(d.dir, "c.sock") }

// start starts it, for the first time or again, and waits until it answers.
func (d *daemon) start(t *testing.T) {
	t.Helper()
	// Not the test's context: it outlives the test's end while the pods are removed.
	cmd := d.node.Command(context.Background(), filepath.Join(tools.dir, "containerd"), "--config",
		d.configFile())
	cmd.Env = append(os.Environ(), "PATH="+tools.dir+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = d.log, d.log
	if err := d.node.Start(cmd); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	d.cmd, d.exited = cmd, exited
	if !fixture.Within(time.Minute, func() bool {
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("containerd has ended: %v\n%s", err, d.tail())
		default:
		}
		info, err := d.info()
		return err == nil && info.ready("RuntimeReady")
	}) {
		t.Fatalf("containerd is not ready\n%s", d.tail())
	}
}

// stop sends it a signal and waits until it has ended. Shims and containers continue.
func (d *daemon) stop(t *testing.T, signal unix.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		t.Errorf("stop containerd: %v", err)
	}
	select {
	case err := <-d.exited:
		d.exited <- err
	case <-time.After(20 * time.Second):
		t.Errorf("containerd does not end after a signal\n%s", d.tail())
		_ = d.cmd.Process.Kill()
		d.exited <- <-d.exited
	}
}

// end stops it for good. The node kills the rest of its processes.
func (d *daemon) end(t *testing.T) {
	t.Helper()
	if d.cmd != nil {
		d.stop(t, unix.SIGTERM)
	}
	if t.Failed() {
		t.Logf("log of containerd:\n%s", d.tail())
	}
	d.log.Close()
}

// tail is the end of its log.
func (d *daemon) tail() string {
	b, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-6000):])
}

// patience bounds each call.
const patience = 90 * time.Second

// output runs one of the tools and returns its output.
func (d *daemon) output(tool string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(tools.dir, tool), args...)
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", tool, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

func (d *daemon) run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, err := d.output(tool, args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// crictl runs a command of the CRI's client.
func (d *daemon) crictl(args ...string) ([]byte, error) {
	endpoint := "unix://" + d.socket()
	return d.output("crictl", append([]string{
		"--config", filepath.Join(d.dir, "crictl.yaml"), "--runtime-endpoint", endpoint, "--image-endpoint",
		endpoint,
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
