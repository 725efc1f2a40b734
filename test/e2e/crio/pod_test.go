// SPDX-License-Identifier: Apache-2.0

package crio

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
	"github.com/sockmap-cni/sockmap-cni/test/lab/podcgroup"
)

// podSpec describes a pod.
type podSpec struct {
	name        string
	annotations map[string]string
	hostNetwork bool
	sharedPID   bool // one PID namespace for all containers, which the pause program keeps
}

// pod is a sandbox.
type pod struct {
	d      *daemon
	spec   podSpec
	uid    string
	id     string
	config *cri.PodSandboxConfig
	ip4    netip.Addr
	ip6    netip.Addr
}

// cgroup is the cgroup in which the kubelet puts a burstable pod, relative to the root of each hierarchy.
func (p *pod) cgroup() string { return "/kubepods/burstable/pod" + p.uid }

// sandboxConfig is the kubelet's configuration of the pod.
func (p *pod) sandboxConfig() *cri.PodSandboxConfig {
	annotations := map[string]string{"kubernetes.io/config.source": "api"}
	maps.Copy(annotations, p.spec.annotations)
	namespaces := &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}
	if p.spec.sharedPID {
		namespaces.Pid = cri.NamespaceMode_POD
	}
	if p.spec.hostNetwork {
		namespaces.Network = cri.NamespaceMode_NODE
	}
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: p.spec.name, Namespace: "default", Uid: p.uid},
		LogDirectory: filepath.Join(p.d.Dir, "pods", p.uid),
		DnsConfig:    &cri.DNSConfig{Servers: []string{"192.0.2.53"}},
		Labels:       crinode.Labels(p.spec.name, p.uid),
		Annotations:  annotations,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    p.cgroup(),
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: namespaces},
		},
	}
	if !p.spec.hostNetwork {
		config.Hostname = p.spec.name
	}
	return config
}

// newPod makes a pod as the kubelet does: first its cgroup, then the sandbox. It is removed at the end of the
// test.
func (d *daemon) newPod(t *testing.T, s podSpec) *pod {
	t.Helper()
	p := &pod{d: d, spec: s, uid: podcgroup.NewUID()}
	p.config = p.sandboxConfig()
	t.Cleanup(func() {
		if err := errors.Join(p.remove(), podcgroup.Remove(p.cgroup())); err != nil {
			t.Errorf("remove pod %s: %v", s.name, err)
		}
	})
	if err := errors.Join(podcgroup.Make(p.cgroup()), os.MkdirAll(p.config.LogDirectory, 0o755)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := within()
	defer cancel()
	run, err := d.runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config})
	if err != nil {
		t.Fatal(err)
	}
	p.id = run.PodSandboxId
	if s.hostNetwork {
		return p
	}
	network := p.status(t).Status.Network
	ips := []string{network.Ip}
	for _, more := range network.AdditionalIps {
		ips = append(ips, more.Ip)
	}
	if p.ip4, p.ip6, err = crinode.Addresses(ips); err != nil {
		t.Fatalf("pod %s: %v", s.name, err)
	}
	return p
}

// status is CRI-O's full status of the sandbox.
func (p *pod) status(t *testing.T) *cri.PodSandboxStatusResponse {
	t.Helper()
	ctx, cancel := within()
	defer cancel()
	ask := &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true}
	status, err := p.d.runtime.PodSandboxStatus(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// stop stops the containers and removes the network.
func (p *pod) stop() error {
	ctx, cancel := within()
	defer cancel()
	_, err := p.d.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id})
	return err
}

// remove stops and removes the sandbox. It does nothing if it was removed before, or never made.
func (p *pod) remove() error {
	if p.id == "" {
		return nil
	}
	err := p.stop()
	ctx, cancel := within()
	defer cancel()
	_, removed := p.d.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
	p.id = ""
	return errors.Join(err, removed)
}

// container is a container of a pod.
type container struct {
	pod *pod
	id  string
	log string
}

// start starts the traffic program with these arguments in a new container of the pod.
func (p *pod) start(t *testing.T, name string, args ...string) *container {
	t.Helper()
	c := &container{pod: p, log: filepath.Join(p.config.LogDirectory, name+".log")}
	labels := crinode.Labels(p.spec.name, p.uid)
	labels["io.kubernetes.container.name"] = name
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: crinode.TrafficImage, UserSpecifiedImage: crinode.TrafficImage},
		Command:  []string{"/traffic"},
		Args:     args,
		LogPath:  name + ".log",
		Labels:   labels,
		Linux: &cri.LinuxContainerConfig{
			Resources: &cri.LinuxContainerResources{CpuShares: 102, OomScoreAdj: 1000},
			SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: p.config.Linux.SecurityContext.NamespaceOptions,
			},
		},
	}
	ctx, cancel := within()
	defer cancel()
	made, err := p.d.runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: p.id, Config: config, SandboxConfig: p.config,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.id = made.ContainerId
	if _, err := p.d.runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.id}); err != nil {
		t.Fatal(err)
	}
	return c
}

// serve starts a server and waits until it listens.
func (p *pod) serve(t *testing.T) *container {
	t.Helper()
	c := p.start(t, "server", "serve", "-listen", fmt.Sprintf("[::]:%d", crinode.ServePort))
	c.output(t)
	return c
}

// idle is a container to start clients in.
func (p *pod) idle(t *testing.T) *container {
	t.Helper()
	c := p.start(t, "idle", "serve", "-listen", "127.0.0.1:1")
	c.output(t)
	return c
}

// output is the first line of the container's standard output. A line on standard error ends the test.
func (c *container) output(t *testing.T) string {
	t.Helper()
	line, err := crinode.FirstLine(c.log)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// Exec runs the traffic program in the container and returns its output.
func (c *container) Exec(args ...string) (string, error) {
	ctx, cancel := within()
	defer cancel()
	done, err := c.pod.d.runtime.ExecSync(ctx, &cri.ExecSyncRequest{
		ContainerId: c.id, Cmd: append([]string{"/traffic"}, args...), Timeout: 70,
	})
	if err != nil {
		return "", err
	}
	if done.ExitCode != 0 {
		return "", fmt.Errorf("status %d: %s", done.ExitCode, done.Stderr)
	}
	return string(done.Stdout), nil
}
