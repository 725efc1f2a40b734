// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

// container is a container that runc makes, on the node of a world.
type container struct {
	w      *world
	id     string
	bundle string
	cgroup string // relative to the cgroup2 mount
	pid    int
}

// A bundle has the special settings of a container.
type bundle struct {
	args   []string // arguments of talk
	cgroup string   // relative to the node's cgroup
	netns  string   // namespace to join; a new one if empty
	hook   []string // createRuntime
}

// create does the first step of runtimes: afterwards there is a process with all namespaces and its cgroup,
// which waits.
func (w *world) create(id string, b bundle) *container {
	w.Helper()
	c := &container{w: w, id: id, bundle: filepath.Join(w.temp, id),
		cgroup: filepath.Join("/", w.node.ID(), b.cgroup)}
	root := filepath.Join(c.bundle, "rootfs")
	if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
		w.Fatal(err)
	}
	talk, err := os.ReadFile(program(w.T, "talk"))
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "talk"), talk, 0o755)
	}
	if err != nil {
		w.Fatal(err)
	}
	spec, err := json.Marshal(c.spec(b))
	if err == nil {
		err = os.WriteFile(filepath.Join(c.bundle, "config.json"), spec, 0o644)
	}
	if err != nil {
		w.Fatal(err)
	}
	force := exec.Command("runc", "--root", c.root(), "delete", "--force", c.id)
	w.Cleanup(func() { _ = force.Run() }) // fails if it has ended before
	c.runc("create", "--bundle", c.bundle, c.id)
	var state struct{ PID int }
	if err := json.Unmarshal(c.runc("state", c.id), &state); err != nil || state.PID <= 0 {
		w.Fatalf("state of container %s: %+v, %v", c.id, state, err)
	}
	c.pid = state.PID
	return c
}

func (c *container) spec(b bundle) map[string]any {
	network := map[string]any{"type": "network"}
	if b.netns != "" {
		network["path"] = b.netns
	}
	spec := map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{"args": append([]string{"/talk"}, b.args...), "cwd": "/",
			"user": map[string]any{}},
		"root":   map[string]any{"path": "rootfs", "readonly": true},
		"mounts": []any{map[string]any{"destination": "/proc", "type": "proc", "source": "proc"}},
		"linux": map[string]any{
			"cgroupsPath": c.cgroup,
			"namespaces":  []any{network, map[string]any{"type": "pid"}, map[string]any{"type": "mount"}},
		},
	}
	if b.hook != nil {
		spec["hooks"] = map[string]any{"createRuntime": []any{map[string]any{
			"path": b.hook[0], "args": b.hook, "env": []string{"PATH=" + os.Getenv("PATH")},
		}}}
	}
	return spec
}

func (c *container) root() string { return filepath.Join(c.w.temp, "runc") }

func (c *container) command(args ...string) *exec.Cmd {
	return exec.CommandContext(c.w.bounded(), "runc", append([]string{"--root", c.root()}, args...)...)
}

// runc runs it on the node. The container's output is written to the file output of the bundle, because the
// container would hold a pipe open.
func (c *container) runc(args ...string) []byte {
	c.w.Helper()
	name := filepath.Join(c.bundle, args[0])
	if args[0] == "create" {
		name = filepath.Join(c.bundle, "output")
	}
	f, err := os.Create(name)
	if err != nil {
		c.w.Fatal(err)
	}
	defer f.Close()
	cmd := c.command(args...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := c.w.node.Start(cmd); err != nil {
		c.w.Fatal(err)
	}
	err = cmd.Wait()
	out, rerr := os.ReadFile(name)
	if err != nil || rerr != nil {
		c.w.Fatalf("runc %s: %v: %s (%v)", strings.Join(args, " "), err, out, rerr)
	}
	return out
}

// netns is the form in which these runtimes name the network namespace.
func (c *container) netns() string { return fmt.Sprintf("/proc/%d/ns/net", c.pid) }

func (c *container) cgroupDir() string { return filepath.Join(cgroupMount(c.w.T), c.cgroup) }

func (c *container) begin() { c.runc("start", c.id) }

// result waits until the container has printed its result.
func (c *container) result() uint64 {
	c.w.Helper()
	var out []byte
	fixture.Wait(c.w, "the container has said how it went", func() bool {
		var err error
		if out, err = os.ReadFile(filepath.Join(c.bundle, "output")); err != nil {
			c.w.Fatal(err)
		}
		return strings.HasSuffix(string(out), "\n")
	})
	return c.w.counted(out)
}

func (c *container) remove() { c.runc("delete", "--force", c.id) }

func runcVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("runc", "--version").Output()
	if err != nil {
		t.Fatalf("%v (apt-get install runc)", err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.Replace(first, " version", "", 1)
}

func where(ip netip.Addr) string { return netip.AddrPortFrom(ip, 8080).String() }

// `ctr run --cni`: create, ADD with the network namespace of the process that waits, start.
func TestCtr(t *testing.T) {
	w := newWorld(t, "ctr", "`ctr run --cni`", "1.0.0")
	w.row.Version = "go-cni " + version(t, "runtime", "github.com/containerd/go-cni") + ", " + runcVersion(t)
	ctr := w.start("ctr", w.setup(), w.confine("")...)
	server := w.create("server", bundle{args: []string{"serve", "0.0.0.0:8080"}, cgroup: "default/server"})
	ip := ctr.do("add", ask.Request{ID: server.id, NetNS: server.netns()})
	w.wantCgroupPath(nil)
	w.wantArg("K8S_POD_UID", false)
	b := w.wantCgroup("default-server", server.cgroupDir(), "CNI_NETNS process")
	server.begin()
	client := w.create("client", bundle{args: []string{"ask", where(ip)}, cgroup: "default/client"})
	ctr.do("add", ask.Request{ID: client.id, NetNS: client.netns()})
	a := w.wantCgroup("default-client", client.cgroupDir(), "CNI_NETNS process")
	client.begin()
	w.wantRedirected(client.result(), a.NetNSCookie, b.NetNSCookie)
	w.row.Cgroup = "the process behind `CNI_NETNS`, which is `/proc/PID/ns/net`: the container's own"

	for _, c := range []*container{client, server} {
		c.remove()
		ctr.do("del", ask.Request{ID: c.id})
		w.wantNoRecord("default-" + c.id)
	}
	if del := w.last("DEL"); del.NetNS != "" {
		t.Errorf("DEL got CNI_NETNS %q", del.NetNS)
	}
	w.wantLinks(0)
	w.note("DEL after the process has gone, without `CNI_NETNS`")
}

// nerdctl: an OCI hook, createRuntime, which calls DEL before ADD.
func TestNerdctl(t *testing.T) {
	w := newWorld(t, "nerdctl", "nerdctl (its OCI hook)", "1.0.0")
	w.row.Version = "go-cni " + version(t, "runtime", "github.com/containerd/go-cni") + ", " + runcVersion(t)
	told, err := json.Marshal(w.setup())
	if err != nil {
		t.Fatal(err)
	}
	prefix := w.confine("")
	nsenter, err := exec.LookPath(prefix[0])
	if err != nil {
		t.Fatal(err)
	}
	run := func(id string, args ...string) (*container, netip.Addr) {
		file := filepath.Join(w.temp, id+".json")
		hook := append(append([]string{nsenter}, prefix[1:]...), program(t, "runtime"), "nerdctl", string(told),
			file)
		c := w.create(id, bundle{args: args, cgroup: "default/" + id, hook: hook})
		var reply ask.Reply
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &reply)
		}
		if err != nil || len(reply.IPs) == 0 {
			t.Fatalf("the hook left %q, %v", b, err)
		}
		return c, netip.MustParseAddr(reply.IPs[0])
	}
	server, ip := run("server", "serve", "0.0.0.0:8080")
	client, _ := run("client", "ask", where(ip))
	w.wantCgroupPath(nil)
	w.wantArg("K8S_POD_UID", false)
	if got := w.last("ADD").NetNS; got != client.netns() {
		t.Errorf("ADD got CNI_NETNS %q, want %q", got, client.netns())
	}
	calls := w.calls()
	if len(calls) != 4 || calls[0].Command != "DEL" || calls[1].Command != "ADD" {
		t.Errorf("want a DEL before each ADD: %+v", calls)
	}
	b := w.wantCgroup("default-server", server.cgroupDir(), "CNI_NETNS process")
	a := w.wantCgroup("default-client", client.cgroupDir(), "CNI_NETNS process")
	server.begin()
	client.begin()
	w.wantRedirected(client.result(), a.NetNSCookie, b.NetNSCookie)
	w.row.Cgroup = "the process behind `CNI_NETNS`, which is `/proc/PID/ns/net`: the container's own"
	w.note("a DEL before the first ADD passes")

	ctr := w.start("ctr", w.setup(), prefix...) // nerdctl's postStop hook removes with the same library call
	for _, c := range []*container{client, server} {
		c.remove()
		ctr.do("del", ask.Request{ID: c.id})
	}
	w.wantLinks(0)
}

// cri-dockerd: the process is the pause container's, in a cgroup below the pod's. The other containers are
// its siblings.
func TestCRIDockerd(t *testing.T) {
	w := newWorld(t, "cri-dockerd", "cri-dockerd", "1.0.0")
	w.row.Version = "its call of libcni " + version(t, "runtime",
		"github.com/containernetworking/cni") + ", " + runcVersion(t)
	dockerd := w.start("cri-dockerd", w.setup())
	pod := func(name, uid string) (pause *container, ip netip.Addr, dir string) {
		dir = "kubepods/burstable/pod" + uid
		pause = w.create("pause-"+name, bundle{args: []string{"pause"}, cgroup: dir + "/pause-" + name})
		pause.begin() // before the network is set up
		ip = dockerd.do("add", ask.Request{Namespace: "default", Name: name, UID: uid, ID: pause.id,
			NetNS: pause.netns()})
		return pause, ip, dir
	}
	pauseB, ip, dirB := pod("server", uidB)
	pauseA, _, dirA := pod("client", uidA)
	w.wantCgroupPath(nil)
	w.wantArg("K8S_POD_UID", false)
	w.wantArg("K8S_POD_NAME", true)
	b := w.wantCgroup(pauseB.id, filepath.Dir(pauseB.cgroupDir()), "CNI_NETNS process")
	a := w.wantCgroup(pauseA.id, filepath.Dir(pauseA.cgroupDir()), "CNI_NETNS process")
	w.row.Cgroup = "the process behind `CNI_NETNS`, the pause container's: the pod's, one above it"
	w.wantLinks(2)

	server := w.create("server", bundle{args: []string{"serve", "0.0.0.0:8080"}, cgroup: dirB + "/server",
		netns: pauseB.netns()})
	server.begin()
	client := w.create("client", bundle{args: []string{"ask", where(ip)}, cgroup: dirA + "/client",
		netns: pauseA.netns()})
	client.begin()
	w.wantRedirected(client.result(), a.NetNSCookie, b.NetNSCookie)
	w.note("the pod's other containers, in sibling cgroups, are covered")

	for _, c := range []*container{client, server} {
		c.remove()
	}
	for _, c := range []*container{pauseA, pauseB} {
		dockerd.do("del", ask.Request{Namespace: "default", ID: c.id, NetNS: c.netns()})
		w.wantNoRecord(c.id)
		c.remove()
	}
	w.wantLinks(0)
}
