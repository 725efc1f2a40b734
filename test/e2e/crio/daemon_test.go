// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"text/template"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
)

// daemon is a CRI-O, with its client.
type daemon struct {
	*crinode.Daemon
	runtime cri.RuntimeServiceClient
}

var configTemplate = template.Must(template.New("crio.conf").Parse(`[crio]
log_dir = "{{.Dir}}/logs"
version_file = "{{.Dir}}/version"
version_file_persist = "{{.Dir}}/version-persist"
clean_shutdown_file = "{{.Dir}}/clean"
internal_wipe = false

[crio.api]
listen = "{{.Socket}}"
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

// prepareDaemon writes the configuration of a CRI-O.
func prepareDaemon(t *testing.T, made *crinode.Daemon) *daemon {
	t.Helper()
	d := &daemon{Daemon: made}
	values := map[string]string{
		"Dir": d.Dir, "Socket": d.Socket(), "Pause": crinode.PauseImage, "Conmon": crio.Paths["conmon"],
		"Images": crio.Images, "Pinns": filepath.Join(crio.Dir, "pinns"),
	}
	var config, storage bytes.Buffer
	err := errors.Join(configTemplate.Execute(&config, values), storageTemplate.Execute(&storage, values))
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Appendf(nil, runcScript, crio.Paths["runc"])
	if err := os.WriteFile(filepath.Join(d.Dir, "bin", "runc"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	d.WriteFiles(t, map[string][]byte{
		"crio.conf": config.Bytes(), "policy.json": []byte(policy), "registries.conf": nil,
		"storage.conf": storage.Bytes(),
	})
	return d
}

// begin starts it for the first time, until the end of the test, and makes it pull the image of containers.
func (d *daemon) begin(t *testing.T) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+d.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d.runtime = cri.NewRuntimeServiceClient(conn)
	d.Begin(t)
	d.start(t)
	ctx, cancel := within()
	defer cancel()
	pull := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: crinode.TrafficImage}}
	if _, err := cri.NewImageServiceClient(conn).PullImage(ctx, pull); err != nil {
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
	in := func(name string) string { return filepath.Join(d.Dir, name) }
	d.Start(t, d.ready, "CONTAINERS_STORAGE_CONF="+in("storage.conf"), "--config", in("crio.conf"),
		"--config-dir", in("crio.conf.d"), "--registries-conf", in("registries.conf"),
		"--registries-conf-dir", in("registries.conf.d"))
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
