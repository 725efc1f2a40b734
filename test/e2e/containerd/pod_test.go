// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/crinode"
	"github.com/sockmap-cni/sockmap-cni/test/lab/podcgroup"
)

// qos is a pod's QoS class, which decides the kubelet's cgroup for it.
type qos string

const (
	guaranteed qos = ""
	burstable  qos = "burstable"
	bestEffort qos = "besteffort"
)

// podSpec describes a pod. A missing uid is made up.
type podSpec struct {
	name        string
	class       qos
	uid         string
	attempt     int // attempt of its sandbox
	annotations map[string]string
	hostPort    int // is forwarded to the port of servers
}

// pod is a sandbox.
type pod struct {
	d    *daemon
	spec podSpec
	id   string
	pid  int // pid of the pause program, in the test's PID namespace
	ip4  netip.Addr
	ip6  netip.Addr
}

// cgroup is the cgroup in which the kubelet puts a pod, relative to the root of each hierarchy.
func (s podSpec) cgroup() string {
	return filepath.Join("/kubepods", string(s.class), "pod"+s.uid)
}

// sandboxConfig is the kubelet's configuration of the pod.
func (p *pod) sandboxConfig() map[string]any {
	s := p.spec
	annotations := map[string]string{"kubernetes.io/config.source": "api"}
	for k, v := range s.annotations {
		annotations[k] = v
	}
	config := map[string]any{
		"metadata":      map[string]any{"name": s.name, "namespace": "default", "uid": s.uid, "attempt": s.attempt},
		"hostname":      s.name,
		"log_directory": p.logDir(),
		"dns_config":    map[string]any{"servers": []string{"192.0.2.53"}},
		"labels":        crinode.Labels(s.name, s.uid),
		"annotations":   annotations,
		"linux": map[string]any{
			"cgroup_parent": s.cgroup(),
			// one for each container
			"security_context": map[string]any{"namespace_options": map[string]any{"pid": 1}},
		},
	}
	if s.hostPort != 0 {
		config["port_mappings"] = []any{
			map[string]any{"host_port": s.hostPort, "container_port": crinode.ServePort},
		}
	}
	return config
}

func (p *pod) logDir() string {
	return filepath.Join(p.d.Dir, "logs", "default_"+p.spec.name+"_"+p.spec.uid)
}

// writeJSON writes a file for crictl.
func (d *daemon) writeJSON(name string, v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	path := filepath.Join(d.Dir, name+".json")
	return path, os.WriteFile(path, b, 0o600)
}

// newPod makes a pod as the kubelet does: first its cgroup, unless an earlier sandbox had it, then the
// sandbox. The pod is removed at the end of the test.
func (d *daemon) newPod(t *testing.T, s podSpec) *pod {
	t.Helper()
	p, err := d.makePod(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.remove(); err != nil {
			t.Errorf("remove pod %s: %v", p.spec.name, err)
		}
	})
	return p
}

func (d *daemon) makePod(s podSpec) (_ *pod, err error) {
	if s.uid == "" {
		s.uid = podcgroup.NewUID()
	}
	p := &pod{d: d, spec: s}
	if s.attempt == 0 {
		if err := podcgroup.Make(s.cgroup()); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.remove())
		}
	}()
	config, err := d.writeJSON(fmt.Sprintf("pod-%s-%d", s.uid, s.attempt), p.sandboxConfig())
	if err != nil {
		return nil, err
	}
	id, err := d.crictl("runp", config)
	if err != nil {
		return nil, err
	}
	p.id = strings.TrimSpace(string(id))
	return p, p.look()
}

// look reads the addresses and the process.
func (p *pod) look() error {
	var is struct {
		Status struct {
			State   string
			Network struct {
				IP            string
				AdditionalIPs []struct{ IP string }
			}
		}
		Info struct{ PID int }
	}
	if err := p.d.inspect(&is, "inspectp", "-o", "json", p.id); err != nil {
		return err
	}
	p.pid = is.Info.PID
	ips := []string{is.Status.Network.IP}
	for _, more := range is.Status.Network.AdditionalIPs {
		ips = append(ips, more.IP)
	}
	var err error
	if p.ip4, p.ip6, err = crinode.Addresses(ips); err == nil && p.pid == 0 {
		err = errors.New("it has no process")
	}
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.spec.name, err)
	}
	return nil
}

// stop stops the containers and removes the network.
func (p *pod) stop() error {
	_, err := p.d.crictl("stopp", p.id)
	return err
}

// removeSandbox removes the sandbox, and leaves the pod's cgroup to another one.
func (p *pod) removeSandbox() error {
	if p.id == "" {
		return nil
	}
	stopped := p.stop()
	_, removed := p.d.crictl("rmp", p.id)
	p.id = ""
	return errors.Join(stopped, removed)
}

// remove does what the kubelet does when a pod is deleted. It does nothing for a pod that was removed before.
func (p *pod) remove() error {
	return errors.Join(p.removeSandbox(), podcgroup.Remove(p.spec.cgroup()))
}

// container is a container of a pod.
type container struct {
	pod *pod
	id  string
	log string
}

var names struct{ next int }

// start starts the traffic program with these arguments in a new container of the pod.
func (p *pod) start(t *testing.T, args ...string) *container {
	t.Helper()
	names.next++
	name := "c" + strconv.Itoa(names.next)
	c, err := p.startContainer(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *pod) startContainer(name string, args ...string) (*container, error) {
	log := name + ".log"
	c := &container{pod: p, log: filepath.Join(p.logDir(), log)}
	if err := os.MkdirAll(p.logDir(), 0o755); err != nil {
		return nil, err
	}
	labels := crinode.Labels(p.spec.name, p.spec.uid)
	labels["io.kubernetes.container.name"] = name
	config, err := p.d.writeJSON("container-"+p.id+"-"+name, map[string]any{
		"metadata": map[string]any{"name": name},
		"image":    map[string]any{"image": crinode.TrafficImage},
		"command":  []string{"/traffic"},
		"args":     args,
		"log_path": log,
		"labels":   labels,
		"linux":    map[string]any{"resources": map[string]any{"cpu_shares": 102, "oom_score_adj": 1000}},
	})
	if err != nil {
		return nil, err
	}
	sandbox, err := p.d.writeJSON("pod-"+p.id, p.sandboxConfig())
	if err != nil {
		return nil, err
	}
	id, err := p.d.crictl("create", p.id, config, sandbox)
	if err != nil {
		return nil, err
	}
	c.id = strings.TrimSpace(string(id))
	_, err = p.d.crictl("start", c.id)
	return c, err
}

// serve starts a server and waits until it listens.
func (p *pod) serve(t *testing.T) *container {
	t.Helper()
	names.next++
	c, err := p.startServer("s" + strconv.Itoa(names.next))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *pod) startServer(name string) (*container, error) {
	c, err := p.startContainer(name, "serve", "-listen", fmt.Sprintf("[::]:%d", crinode.ServePort))
	if err == nil {
		_, err = crinode.FirstLine(c.log)
	}
	return c, err
}

// Exec runs the traffic program in the container and returns its output.
func (c *container) Exec(args ...string) (string, error) {
	command := []string{"exec", "--sync", "--timeout", "70", c.id, "/traffic"}
	out, err := c.pod.d.crictl(append(command, args...)...)
	return string(out), err
}

// process is the container's first process.
func (c *container) process(t *testing.T) int {
	t.Helper()
	var is struct{ Info struct{ PID int } }
	if err := c.pod.d.inspect(&is, "inspect", "-o", "json", c.id); err != nil {
		t.Fatal(err)
	}
	return is.Info.PID
}

// end stops and removes the container. The pod continues.
func (c *container) end(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{{"stop", "--timeout", "5", c.id}, {"rm", c.id}} {
		if _, err := c.pod.d.crictl(args...); err != nil {
			t.Fatal(err)
		}
	}
}
