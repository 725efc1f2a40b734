// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/packaging/chart"
	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const top = "../../.."

// Exit codes of sockmapctl.
const (
	exitDone    = 0
	exitHazards = 5 // doctor, where hazards of the kernel keep acceleration off
)

// rendered returns the DaemonSet's pod.
func rendered(t *testing.T, values map[string]any) corev1.PodSpec {
	t.Helper()
	c, err := chart.Load(filepath.Join(top, "conf/kubernetes/chart"))
	if err != nil {
		t.Fatal(err)
	}
	documents, _, err := c.Render(chart.Release, chart.Namespace, values)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		var ds appsv1.DaemonSet
		if err := yaml.Unmarshal([]byte(d), &ds); err == nil && ds.Kind == "DaemonSet" {
			return ds.Spec.Template.Spec
		}
	}
	t.Fatal("no DaemonSet")
	return corev1.PodSpec{}
}

// build makes the programs as in the image, and returns their directory.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir, "./plugin/sockmap", "./plugin/sockmapctl")
	cmd.Dir, cmd.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// ownBPFFS replaces the node's bpffs.
func ownBPFFS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// source is the directory of the host that is mounted at target in the container.
func (c container) source(t *testing.T, target string) string {
	t.Helper()
	i := slices.IndexFunc(c.Mounts, func(m mount) bool { return m.Target == target })
	if i < 0 {
		t.Fatalf("nothing is mounted on %s", target)
	}
	return c.Mounts[i].Source
}

func newCgroup(t *testing.T) string {
	t.Helper()
	m, err := cgroup.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	path, err := os.MkdirTemp(m.Path, "sockmap-pod-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, path) })
	return path
}

// removeCgroup waits for a moment: the kernel releases a process's cgroup a little later than the process is
// reaped.
func removeCgroup(t *testing.T, path string) {
	t.Helper()
	var err error
	if !fixture.Within(fixture.Patience, func() bool {
		err = os.Remove(path)
		return err == nil || os.IsNotExist(err)
	}) {
		t.Error(err)
	}
}

// agentContainer is the agent's container, with the test's own bpffs and CNI directories in place of the
// node's.
func agentContainer(t *testing.T, programs string, values map[string]any) container {
	t.Helper()
	pod := rendered(t, values)
	agent := pod.Containers[0]
	c := container{Root: t.TempDir(), Cgroup: newCgroup(t), Programs: programs, Args: agent.Args}
	for _, name := range agent.SecurityContext.Capabilities.Add {
		c.Capabilities = append(c.Capabilities, string(name))
	}
	for _, e := range agent.Env {
		if e.ValueFrom == nil {
			c.Env = append(c.Env, e.Name+"="+e.Value)
		}
	}
	bpffs := ownBPFFS(t)
	for _, m := range agent.VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		source := pod.Volumes[i].HostPath.Path
		switch m.Name {
		case "bpffs":
			source = bpffs
		case "cni-bin", "cni-conf", "cni-cache", "cri":
			source = t.TempDir()
		case "netns":
			if err := os.MkdirAll(source, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		c.Mounts = append(c.Mounts, mount{source, m.MountPath, m.ReadOnly})
	}
	return c
}

// without returns the container with some capabilities replaced by others.
func (c container) without(name string, instead ...string) container {
	c.Capabilities = append(slices.DeleteFunc(slices.Clone(c.Capabilities),
		func(have string) bool { return have == name }), instead...)
	return c
}

func TestAgentsRightsSuffice(t *testing.T) {
	c := agentContainer(t, build(t), nil)
	if out := c.must(t, []int{exitDone}, "load"); !strings.Contains(out, "loaded") {
		t.Errorf("load prints %q", out)
	}
	// Only root passes the checks of privileges, so passing them shows something, too.
	c.must(t, []int{exitDone, exitHazards}, "doctor")
	c.must(t, []int{exitDone, exitHazards}, "status")
	c.must(t, []int{exitDone}, "attachments")
	c.must(t, []int{exitDone}, "disable")
	c.must(t, []int{exitDone}, "enable")

	g := newTalkers(t)
	c.must(t, []int{exitDone}, "attach", "--cgroup", g.cgroup, "--accept-hazards", "all")
	g.start(t)
	// The namespace of the connection has a name in /run/netns, like a pod's, and no process that this
	// container sees.
	if out := c.must(t, []int{exitDone}, "flows", "--no-headers"); strings.Count(out, "127.0.0.1:") != 4 {
		t.Errorf("flows lists not the two ends of one connection:\n%s", out)
	}
	if out := c.must(t, []int{exitDone}, "metrics"); !strings.Contains(out, `sockmap_enabled 1`) {
		t.Errorf("metrics:\n%s", out)
	}
	g.stop(t)

	if _, out, _ := c.without("DAC_READ_SEARCH").run(t, "gc"); strings.Contains(out, "its cgroup is gone") {
		t.Error("gc knows without DAC_READ_SEARCH that a cgroup is gone: the chart need not add it")
	}
	if out := c.must(t, []int{exitDone}, "gc"); !strings.Contains(out, "its cgroup is gone") {
		t.Errorf("gc of a removed cgroup prints %q", out)
	}
	c.must(t, []int{exitDone}, "unload")
}

// Each right that the chart adds is needed: without it, one of the tests above fails.
func TestAgentsRightsAreNeeded(t *testing.T) {
	c := agentContainer(t, build(t), nil)
	for _, less := range []container{
		c.without("NET_ADMIN"),
		c.without("SYS_ADMIN"),
		// The capabilities that were split from SYS_ADMIN are not enough for setns.
		c.without("SYS_ADMIN", "BPF", "PERFMON"),
	} {
		code, _, complaint := less.run(t, "load")
		if code == exitDone || !denied.MatchString(complaint) {
			t.Errorf("load with %v: exit code %d: %s", less.Capabilities, code, complaint)
		}
	}
}

var denied = regexp.MustCompile("not permitted|permission denied")

func TestRootIsReadOnly(t *testing.T) {
	c := agentContainer(t, build(t), nil)
	if code, _, complaint := c.run(t, "load", "--bpffs-path=/usr/sockmap"); code == exitDone {
		t.Errorf("loading outside of bpffs: exit code 0: %s", complaint)
	}
	for _, m := range c.Mounts {
		if m.Target == "/var/lib/cni" && !m.ReadOnly {
			t.Error("the runtime's records can be written to")
		}
	}
}

// On a host with cgroup v1, containers have its cgroup namespace, and see the root of cgroup2, in which they
// may not create anything.
func TestTheAgentLoadsWithTheHostsCgroupNamespace(t *testing.T) {
	if m, err := cgroup.FindMount(); err != nil || m.Path == "/sys/fs/cgroup" {
		t.Skipf("this host has no cgroup v1: cgroup2 is at %q (%v)", m.Path, err)
	}
	c := agentContainer(t, build(t), nil)
	c.HostCgroups = true
	c.must(t, []int{exitDone}, "load")
	c.must(t, []int{exitDone}, "unload")
}
