// SPDX-License-Identifier: Apache-2.0

//go:build kubelet

package containerd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// kubeletModule pins the kubelet's version. It is built for these tests only, which `make test-kubelet` runs: that
// takes long, and more memory than many a machine for tests has.
const kubeletModule = "test/e2e/containerd/kubelet"

// tunables of the machine that the kubelet sets. It is shown files of its own instead.
var tunables = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
	"kernel/keys/root_maxbytes",
}

// kubelet is one without an API server: it runs the pods whose manifests are in a directory.
type kubelet struct {
	*world
	root      string // of its cgroups
	manifests string
}

func newKubelet(t *testing.T) *kubelet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	if err := lab.BuildModule(ctx, tools.dir, kubeletModule, "k8s.io/kubernetes/cmd/kubelet"); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, map[string]any{})
	k := &kubelet{world: w, root: ownCgroup + ownUIDs() + "kubelet", manifests: filepath.Join(w.dir, "manifests")}
	if err := makePodCgroup(k.root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removePodCgroup(k.root); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(k.removePods)
	if err := os.Mkdir(k.manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	k.run()
	return k
}

// run starts it until the end of the test. It does not touch cgroups and sysctls that are not its own.
func (k *kubelet) run() {
	k.Helper()
	config, err := json.Marshal(map[string]any{
		"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
		"staticPodPath": k.manifests, "containerRuntimeEndpoint": "unix://" + k.socket(),
		"cgroupDriver": "cgroupfs", "cgroupRoot": k.root, "failCgroupV1": false,
		"enforceNodeAllocatable": []string{"none"}, "failSwapOn": false, "enableServer": false, "healthzPort": 0,
		"authentication":     map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":      map[string]any{"mode": "AlwaysAllow"},
		"podLogsDir":         filepath.Join(k.dir, "logs"),
		"volumePluginDir":    filepath.Join(k.dir, "volumes"),
		"resolvConf":         "",
		"fileCheckFrequency": "1s", "syncFrequency": "2s",
		"imageGCHighThresholdPercent": 100, "localStorageCapacityIsolation": false, "makeIPTablesUtilChains": false,
		"evictionHard": map[string]string{
			"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
			"imagefs.inodesFree": "0%", "pid.available": "0%",
		},
	})
	if err != nil {
		k.Fatal(err)
	}
	k.replace(filepath.Join(k.dir, "kubelet.json"), config, 0o600)
	var setup []string
	for _, name := range tunables {
		content, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			k.Fatal(err)
		}
		file := filepath.Join(k.dir, strings.ReplaceAll(name, "/", "-"))
		k.replace(file, content, 0o600)
		setup = append(setup, "mount --bind "+file+" /proc/sys/"+name)
	}
	setup = append(setup, "exec "+filepath.Join(tools.dir, "kubelet")+" --config "+filepath.Join(k.dir, "kubelet.json")+
		" --root-dir "+filepath.Join(k.dir, "kubelet")+" --cert-dir "+filepath.Join(k.dir, "pki")+" --hostname-override node")
	cmd := k.node.Command(context.Background(), "unshare", "--mount", "/bin/sh", "-c", strings.Join(setup, " && "))
	log, err := os.Create(filepath.Join(k.dir, "kubelet.log"))
	if err != nil {
		k.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := k.node.Start(cmd); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		log.Close()
		if b, err := os.ReadFile(log.Name()); k.Failed() && err == nil {
			k.Logf("the kubelet said:\n%s", b[max(0, len(b)-12000):])
		}
	})
}

// removePods removes what the kubelet has made, when it runs no more.
func (k *kubelet) removePods() {
	var sandboxes struct{ Items []struct{ ID string } }
	if err := k.inspect(&sandboxes, "pods", "-o", "json"); err != nil {
		k.Error(err)
	}
	for _, s := range sandboxes.Items {
		if err := (&pod{d: k.daemon, id: s.ID}).removeSandbox(); err != nil {
			k.Error(err)
		}
	}
}

// manifest gives the kubelet a pod with containers of these names: a server, and others to start clients in.
func (k *kubelet) manifest(name string, class qos, annotations map[string]string, containers ...string) {
	k.Helper()
	resources := map[qos]map[string]any{
		guaranteed: {"limits": map[string]string{"cpu": "100m", "memory": "64Mi"}},
		burstable:  {"requests": map[string]string{"cpu": "10m"}},
	}
	var all []any
	for _, c := range containers {
		listen := "127.0.0.1:1"
		if c == "server" {
			listen = fmt.Sprintf("[::]:%d", servePort)
		}
		all = append(all, map[string]any{
			"name": c, "image": trafficImage, "imagePullPolicy": "Never", "args": []string{"serve", "-listen", listen},
			"resources": resources[class],
		})
	}
	b, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": name, "namespace": "default", "annotations": annotations},
		"spec": map[string]any{
			"containers": all, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 2,
		},
	})
	if err != nil {
		k.Fatal(err)
	}
	// Made elsewhere: the kubelet reads every file of the directory.
	file := filepath.Join(k.dir, name+".json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		k.Fatal(err)
	}
	if err := os.Rename(file, k.manifestFile(name)); err != nil {
		k.Fatal(err)
	}
}

func (k *kubelet) manifestFile(name string) string { return filepath.Join(k.manifests, name+".json") }

// wait waits until the pod has a sandbox that is ready, other than not, and containers that run, and gives both.
func (k *kubelet) wait(name string, class qos, not string, containers ...string) (*pod, map[string]*container) {
	k.Helper()
	p := &pod{d: k.daemon}
	running := map[string]*container{}
	k.eventually("pod "+name+" runs", func() bool {
		var sandboxes struct {
			Items []struct {
				ID       string
				State    string
				Metadata struct{ Name, UID string }
			}
		}
		if err := k.inspect(&sandboxes, "pods", "-o", "json", "--state", "ready"); err != nil {
			k.Fatal(err)
		}
		for _, s := range sandboxes.Items {
			if s.Metadata.Name == name+"-node" && s.ID != not {
				p.id, p.spec = s.ID, podSpec{name: s.Metadata.Name, class: class, uid: s.Metadata.UID, root: k.root}
			}
		}
		if p.id == "" {
			return false
		}
		maps.DeleteFunc(running, func(string, *container) bool { return true })
		var found struct {
			Containers []struct {
				ID       string
				Metadata struct{ Name string }
			}
		}
		if err := k.inspect(&found, "ps", "-o", "json", "--pod", p.id); err != nil {
			k.Fatal(err)
		}
		for _, c := range found.Containers {
			running[c.Metadata.Name] = &container{pod: p, id: c.ID}
		}
		return len(running) == len(containers)
	})
	if err := p.look(); err != nil {
		k.Fatal(err)
	}
	return p, running
}

// A real kubelet makes the pods, their cgroups and their sandboxes, again too, and removes them.
func TestKubelet(t *testing.T) {
	k := newKubelet(t)
	k.manifest("server", guaranteed, nil, "server")
	k.manifest("client", burstable, nil, "client", "server")
	k.manifest("best", bestEffort, nil, "client")
	k.manifest("out", burstable, map[string]string{"sockmap-cni/accelerate": "false"}, "client")
	server, serves := k.wait("server", guaranteed, "", "server")
	client, clients := k.wait("client", burstable, "", "client", "server")
	best, bests := k.wait("best", bestEffort, "", "client")
	_, outs := k.wait("out", burstable, "", "client")
	for _, p := range []*pod{server, client, best} {
		k.wantEndpoint(p)
	}
	k.wantInPodCgroup(serves["server"])
	k.wantRedirected(clients["client"], at(server.ip4))
	k.wantRedirected(bests["client"], at(server.ip6))
	k.wantRedirected(clients["client"], at(client.ip4)) // within the pod
	k.wantPlain(outs["client"], at(server.ip4))

	// A container that ends is started again, in the same sandbox.
	if err := unix.Kill(serves["server"].process(t), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first := serves["server"].id
	k.eventually("the kubelet has restarted the container", func() bool {
		_, serves = k.wait("server", guaranteed, "", "server")
		return serves["server"].id != first
	})
	k.wantRedirected(clients["client"], at(server.ip4))

	// A sandbox that dies is made again, in the same cgroup.
	k.killSandbox(server)
	again, _ := k.wait("server", guaranteed, server.id, "server")
	if again.spec.cgroup() != server.spec.cgroup() {
		t.Errorf("cgroup %s, before %s", again.spec.cgroup(), server.spec.cgroup())
	}
	k.wantEndpoint(again)
	k.wantRedirected(clients["client"], at(again.ip4))
	k.Logf("calls: %q", k.calls())

	for _, name := range []string{"server", "client", "best", "out"} {
		if err := os.Remove(k.manifestFile(name)); err != nil {
			t.Error(err)
		}
	}
	k.eventually("the kubelet has removed the pods", func() bool { return len(k.records()) == 0 })
	k.wantNoVeths()
}
