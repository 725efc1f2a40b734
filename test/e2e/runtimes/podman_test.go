// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"archive/tar"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

// containersConf is for a machine without systemd and journal. confine makes private directories for all
// other files of podman.
const containersConf = `[containers]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = [%q]
network_config_dir = %q
`

// podman runs the program, confined, and returns its output.
type podman struct {
	w      *world
	prefix []string
}

func newPodman(w *world) podman {
	w.Helper()
	conf := filepath.Join(w.temp, "containers.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, containersConf, w.bin, w.conf), 0o644); err != nil {
		w.Fatal(err)
	}
	prefix := append(w.confine(""), "env", "CONTAINERS_CONF="+conf, "podman", "--storage-driver", "vfs")
	return podman{w, prefix}
}

func (p podman) run(args ...string) []byte {
	p.w.Helper()
	all := append(p.prefix[:len(p.prefix):len(p.prefix)], args...)
	cmd := p.w.node.Command(p.w.bounded(), all[0], all[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, logger{p.w.T}
	if err := p.w.node.Start(cmd); err != nil {
		p.w.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		p.w.Fatalf("podman %s: %v: %s", strings.Join(args, " "), err, out.Bytes())
	}
	return bytes.TrimSpace(out.Bytes())
}

// image imports an image that contains only talk.
func (p podman) image() string {
	p.w.Helper()
	talk, err := os.ReadFile(program(p.w.T, "talk"))
	if err != nil {
		p.w.Fatal(err)
	}
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	err = t.WriteHeader(&tar.Header{Name: "talk", Mode: 0o755, Size: int64(len(talk))})
	if err == nil {
		_, err = t.Write(talk)
	}
	if err == nil {
		err = t.Close()
	}
	file := filepath.Join(p.w.temp, "image.tar")
	if err == nil {
		err = os.WriteFile(file, b.Bytes(), 0o644)
	}
	if err != nil {
		p.w.Fatal(err)
	}
	p.run("import", "--quiet", file, "localhost/talk:1")
	return "localhost/talk:1"
}

// create makes a container on the node's network and returns its ID.
func (p podman) create(name, image string, args ...string) string {
	p.w.Helper()
	all := []string{"create", "--name", name, "--network", p.w.network(),
		// Its own defaults exceed what a process without CAP_SYS_RESOURCE may set.
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
		"--cgroup-parent", "/" + p.w.node.ID() + "/podman", image, "/talk"}
	return string(p.run(append(all, args...)...))
}

func (p podman) ip(id string) netip.Addr {
	p.w.Helper()
	out := p.run("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id)
	ip, err := netip.ParseAddr(string(out))
	if err != nil {
		p.w.Fatalf("address of %s: %q: %v", id, out, err)
	}
	return ip
}

// The real podman. It makes the network namespace and calls CNI before there is a cgroup or a process, and
// passes neither, so the programs are attached to the root of the hierarchy and only registered network
// namespaces are accelerated.
func TestPodman(t *testing.T) {
	w := newWorld(t, "podman", "podman with the CNI backend", "1.0.0")
	p := newPodman(w)
	w.row.Version = strings.Replace(string(p.run("--version")), " version", "", 1) + ", " + runcVersion(t)
	image := p.image()
	p.pair(image, cgroupMount(t), "cgroup2 root")
	w.row.Cgroup = "none at ADD: the root of cgroup2, and network namespaces that are registered; or the conflist's cgroupPath"

	// The operator knows where podman puts containers.
	parent := filepath.Join(w.node.CgroupPath(), "podman")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	w.writeConflist(labtest.Conflist(t, w.node, lab.Network{
		Base: w.conflist("1.0.0"), Set: map[string]map[string]any{"sockmap": {"cgroupPath": parent}},
	}))
	p.pair(image, parent, "configuration")
}

// pair lets two containers exchange data. how is the expected source of their cgroup.
func (p podman) pair(image, dir, source string) {
	w := p.w
	w.Helper()
	serverID := p.create("server", image, "serve", "0.0.0.0:8080")
	p.run("start", serverID)
	retired := w.retired().RedirectedBytes
	w.wantCgroupPath(nil)
	w.wantArg("K8S_POD_UID", false)
	if add := w.last("ADD"); !strings.HasPrefix(add.NetNS, "/run/netns/netns-") || add.ContainerID != serverID {
		w.Errorf("ADD got CNI_NETNS %q and the container %q, want %q", add.NetNS, add.ContainerID, serverID)
	}
	b := w.wantCgroup(serverID, dir, source)
	clientID := p.create("client", image, "ask", where(p.ip(serverID)))
	size := w.counted(p.run("start", "--attach", clientID))
	w.wantRedirected(size, b.NetNSCookie)
	// The client has ended, so podman has called DEL, and the client's bytes are in the node's sum.
	w.until("the sum of the client is there",
		func() bool { return w.retired().RedirectedBytes > retired+size/2 })
	w.wantNoRecord(clientID)
	p.bystander()
	p.run("rm", "--force", "--time", "0", clientID, serverID)
	w.wantNoRecord(serverID)
	w.wantLinks(0)
}

// bystander is another process on the machine, which is also below the root.
func (p podman) bystander() {
	w := p.w
	w.Helper()
	other := w.pod(lab.PodSpec{})
	before := w.retired()
	w.talk(other, other, netip.MustParseAddr("127.0.0.1"))
	if after := w.retired(); after.RedirectedBytes != before.RedirectedBytes ||
		after.TCPBytes != before.TCPBytes {
		w.Errorf("a network namespace that is not registered was counted: %+v, before %+v", after, before)
	}
	w.wantPlain(other.NetNSCookie())
	w.note("a network namespace that is not registered is left alone")
}
