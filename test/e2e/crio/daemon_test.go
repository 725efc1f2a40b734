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
	"testing"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// daemon is a CRI-O with its own directories, in the network namespace of a node of the lab: bridges and
// rules are made there, and disappear with it.
type daemon struct {
	node    *lab.Node
	dir     string // directory of all files below, removed with the node
	cmd     *exec.Cmd
	exited  chan error
	log     *os.File
	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient
}

var configTemplate = template.Must(template.New("crio.conf").Parse(`[crio]
log_dir = "{{.Dir}}/logs"
version_file = "{{.Dir}}/version"
version_file_persist = "{{.Dir}}/version-persist"
clean_shutdown_file = "{{.Dir}}/clean"
internal_wipe = false

[crio.api]
listen = "{{.Dir}}/crio.sock"
stream_address = "127.0.0.1"
stream_port = "0"

[crio.runtime]
cgroup_manager = "cgroupfs"
selinux = false
apparmor_profile = "unconfined"
hooks_dir = []
namespaces_dir = "{{.Dir}}/ns"
pinns_path = "{{.Pinns}}"
container_exits_dir = "{{.Dir}}/exits"
container_attach_socket_dir = "{{.Dir}}/attach"
irqbalance_config_restore_file = "disable"
default_runtime = "runc"
log_level = "info"

[crio.runtime.runtimes.runc]
runtime_path = "{{.Dir}}/bin/runc"
runtime_root = "{{.Dir}}/runc"
monitor_path = "{{.Conmon}}"
monitor_cgroup = "pod"

[crio.image]
default_transport = "docker-archive:{{.Images}}:"
pause_image = "{{.Pause}}"
pause_command = "/pause"
signature_policy = "{{.Dir}}/policy.json"
signature_policy_dir = "{{.Dir}}/policies"

[crio.network]
network_dir = "{{.Dir}}/net.d"
plugin_dirs = ["{{.Dir}}/bin"]

[crio.nri]
enable_nri = false
`))

// storage.conf is read before the configuration, and would be the machine's.
var storageTemplate = template.Must(template.New("storage.conf").Parse(`[storage]
driver = "vfs"
graphroot = "{{.Dir}}/root"
runroot = "{{.Dir}}/run"
`))

// Without CAP_SYS_RESOURCE, as inside many virtual machines for tests, runc cannot lower the OOM score as
// CRI-O wants for pause containers.
const runcScript = `#!/bin/sh
before=
for argument; do
	[ "$before" = --bundle ] && sed -i 's/"oomScoreAdj": *-[0-9]*/"oomScoreAdj":0/' "$argument/config.json"
	before=$argument
done
exec %s "$@"
`

// The images are not signed.
const policy = `{"default": [{"type": "insecureAcceptAnything"}]}`

// prepareDaemon makes the directories and the configuration of a CRI-O on the node.
func prepareDaemon(t *testing.T, node *lab.Node) *daemon {
	t.Helper()
	d := &daemon{node: node, dir: filepath.Join(node.Dir(), "c")}
	for _, sub := range []string{"bin", "net.d", "logs", "crio.conf.d", "registries.conf.d"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	values := map[string]string{
		"Dir": d.dir, "Pause": pauseImage, "Conmon": tools.conmon, "Images": tools.images,
		"Pinns": filepath.Join(tools.dir, "pinns"),
	}
	var config, storage bytes.Buffer
	err := errors.Join(configTemplate.Execute(&config, values), storageTemplate.Execute(&storage, values))
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Appendf(nil, runcScript, tools.runc)
	if err := os.WriteFile(filepath.Join(d.dir, "bin", "runc"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"crio.conf": config.Bytes(), "policy.json": []byte(policy), "registries.conf": nil,
		"storage.conf": storage.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(d.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "crio.sock") }

// begin starts it for the first time, until the end of the test, and makes it pull the image of containers.
func (d *daemon) begin(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	d.log = log
	d.conn, err = grpc.NewClient("unix://"+d.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	d.runtime = cri.NewRuntimeServiceClient(d.conn)
	t.Cleanup(func() { d.end(t) })
	d.start(t)
	ctx, cancel := within()
	defer cancel()
	pull := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: trafficImage}}
	if _, err := cri.NewImageServiceClient(d.conn).PullImage(ctx, pull); err != nil {
		t.Fatal(err)
	}
}

// patience bounds each call.
const patience = 90 * time.Second

// within does not use the test's context, because pods are removed after that has ended.
func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// start starts it, for the first time or again, and waits until it answers.
func (d *daemon) start(t *testing.T) {
	t.Helper()
	in := func(name string) string { return filepath.Join(d.dir, name) }
	cmd := d.node.Command(context.Background(), filepath.Join(tools.dir, "crio"), "--config", in("crio.conf"),
		"--config-dir", in("crio.conf.d"), "--registries-conf", in("registries.conf"),
		"--registries-conf-dir", in("registries.conf.d"))
	cmd.Env = append(os.Environ(), "CONTAINERS_STORAGE_CONF="+in("storage.conf"))
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
			t.Fatalf("CRI-O has ended: %v\n%s", err, d.tail())
		default:
		}
		return d.ready()
	}) {
		t.Fatalf("CRI-O is not ready\n%s", d.tail())
	}
}

// ready reports whether it answers, and has read the list of the network.
func (d *daemon) ready() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	status, err := d.runtime.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return false
	}
	for _, c := range status.Status.Conditions {
		if !c.Status {
			return false
		}
	}
	return true
}

// stop sends it a signal and waits until it has ended. Containers continue.
func (d *daemon) stop(t *testing.T, signal unix.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(signal); err != nil {
		t.Errorf("stop CRI-O: %v", err)
	}
	select {
	case err := <-d.exited:
		d.exited <- err
	case <-time.After(20 * time.Second):
		t.Errorf("CRI-O does not end after a signal\n%s", d.tail())
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
		t.Logf("log of CRI-O:\n%s", d.tail())
	}
	d.conn.Close()
	d.log.Close()
}

// tail is the end of its log.
func (d *daemon) tail() string {
	b, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8000):])
}
