// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// A PortMapping is an element of the capability portMappings.
type PortMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp or udp
	HostIP        string `json:"hostIP,omitempty"`
}

// A PodSpec describes the pod that NewPod makes. NewPod makes up the missing fields.
type PodSpec struct {
	Name, Namespace, UID string
	ContainerID          string // id of the sandbox
	IfName               string // eth0 if empty

	Annotations  map[string]string // nil: the runtime passes none
	PortMappings []PortMapping

	// Conflist is the network for ADD. Without it the pod has only a loopback interface.
	Conflist []byte

	// Cgroup is the pod's cgroup, relative to the cgroup2 mount. If it is empty, the pod gets
	// kubepods/burstable/podUID below the node's cgroup, as from the kubelet. Pods may share a cgroup, as two
	// sandboxes of one pod do.
	Cgroup string
	// NoCgroupPath leaves out the capability cgroupPath.
	NoCgroupPath bool
	// HostNetwork: the pod uses the node's network namespace, and no plugin is called for it.
	HostNetwork bool
	// Edits change the runtime configuration of ADD in NewPod and of DEL in Delete.
	Edits []Edit
}

// A Pod is one sandbox. Its Place is the network namespace and the cgroup of the sandbox container, a child
// of the pod's cgroup.
type Pod struct {
	Place
	node      *Node
	spec      PodSpec
	relCgroup string // the pod's, relative to the cgroup2 mount, as a runtime passes it
	podCgroup string // the same as a path in the file system

	deleting sync.Mutex // one Delete at a time

	mu       sync.Mutex // guards the fields below
	attached []attachment
	result   *types100.Result
	deleted  bool
}

type attachment struct {
	network, ifName string
	conflist        []byte
	edits           []Edit
}

// NewPod makes a pod and ADDs it to the network of its conflist. If that fails,
// the pod is deleted again.
func (n *Node) NewPod(ctx context.Context, spec PodSpec) (_ *Pod, err error) {
	spec = spec.orDefaults()
	p := &Pod{node: n, spec: spec}
	mount := filepath.Dir(n.cgroup)
	p.podCgroup = filepath.Join(n.cgroup, "kubepods", "burstable", "pod"+spec.UID)
	if spec.Cgroup != "" {
		p.podCgroup = filepath.Join(mount, spec.Cgroup)
	}
	p.relCgroup = strings.TrimPrefix(p.podCgroup, mount)
	if err := n.register(p); err != nil {
		return nil, err
	}
	defer n.making.Done()
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), teardown)
			defer cancel()
			err = errors.Join(err, p.Delete(ctx))
		}
	}()
	if spec.HostNetwork {
		p.Place = Place{netns: n.netns, cookie: n.cookie}
	} else if p.Place, err = newPlace(filepath.Join(n.dir, "netns", spec.ContainerID), nil); err != nil {
		return nil, err
	}
	p.bin = n.bin
	p.sockets = filepath.Join(p.podCgroup, spec.ContainerID)
	p.procs = p.sockets
	if err := p.makeCgroup(); err != nil {
		return nil, err
	}
	if spec.Conflist != nil && !spec.HostNetwork {
		if _, err := n.ADD(ctx, spec.Conflist, p, spec.Edits...); err != nil {
			return nil, err
		}
	}
	if err := inNetNS(p.netns, usualCongestionControl); err != nil {
		return nil, err
	}
	return p, nil
}

func (s PodSpec) orDefaults() PodSpec {
	s.ContainerID = orRandom(s.ContainerID, 32)
	if s.UID == "" {
		h := orRandom("", 16)
		s.UID = strings.Join([]string{h[:8], h[8:12], "4" + h[13:16], "a" + h[17:20], h[20:]}, "-")
	}
	if s.Name == "" {
		s.Name = "pod-" + s.ContainerID[:min(5, len(s.ContainerID))]
	}
	if s.Namespace == "" {
		s.Namespace = "default"
	}
	if s.IfName == "" {
		s.IfName = "eth0"
	}
	return s
}

func orRandom(s string, bytes int) string {
	if s != "" {
		return s
	}
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// register adds p to the node's list, so that Close finds it, and keeps Close waiting until n.making.Done.
func (n *Node) register(p *Pod) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return fmt.Errorf("make pod %s: node %s is closed", p, n.id)
	}
	n.making.Add(1)
	n.pods = append(n.pods, p)
	n.cgroups[p.podCgroup]++
	return nil
}

// makeCgroup tries again if another node finds the parents empty and removes them.
func (p *Pod) makeCgroup() (err error) {
	for range 10 {
		if err = os.MkdirAll(p.sockets, 0o755); err == nil {
			return nil
		}
	}
	return fmt.Errorf("make cgroup: %w", err)
}

// String returns namespace/name.
func (p *Pod) String() string { return p.spec.Namespace + "/" + p.spec.Name }

// Spec is the specification of the pod, including the fields that NewPod made up.
func (p *Pod) Spec() PodSpec { return p.spec }

// Node is where the pod runs.
func (p *Pod) Node() *Node { return p.node }

// ContainerID is the sandbox's.
func (p *Pod) ContainerID() string { return p.spec.ContainerID }

// CgroupPath is the directory of the pod's cgroup.
func (p *Pod) CgroupPath() string { return p.podCgroup }

// ContainerCgroup is the directory of the sandbox container's cgroup, a child of
// the pod's, where its processes and sockets are.
func (p *Pod) ContainerCgroup() string { return p.sockets }

// Container makes another container of the pod: a place in the pod's network namespace, with its own cgroup
// below the pod's. Deleting the pod removes it.
func (p *Pod) Container(name string) (*Place, error) {
	dir := filepath.Join(p.podCgroup, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	c := p.Place
	c.sockets, c.procs = dir, dir
	return &c, nil
}

// Result is the result of the last ADD, nil before the first.
func (p *Pod) Result() *types100.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.result
}

// IPs are the pod's addresses, in the order of the last ADD's result.
func (p *Pod) IPs() []netip.Addr {
	var ips []netip.Addr
	if r := p.Result(); r != nil {
		for _, c := range r.IPs {
			if ip, ok := netip.AddrFromSlice(c.Address.IP); ok {
				ips = append(ips, ip.Unmap())
			}
		}
	}
	return ips
}

// IP4 is the first IPv4 address, invalid if there is none.
func (p *Pod) IP4() netip.Addr { return first(p.IPs(), netip.Addr.Is4) }

// IP6 is the first IPv6 address, invalid if there is none.
func (p *Pod) IP6() netip.Addr { return first(p.IPs(), netip.Addr.Is6) }

func first(ips []netip.Addr, is func(netip.Addr) bool) netip.Addr {
	if i := slices.IndexFunc(ips, is); i >= 0 {
		return ips[i]
	}
	return netip.Addr{}
}

func (p *Pod) attach(network, ifName string, conflist []byte, edits []Edit) {
	p.detach(network, ifName)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached = append(p.attached, attachment{network, ifName, conflist, edits})
}

func (p *Pod) detach(network, ifName string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached = slices.DeleteFunc(p.attached, func(a attachment) bool {
		return a.network == network && a.ifName == ifName
	})
}

// keep stores the result of an ADD.
func (p *Pod) keep(r types.Result) error {
	result, err := types100.NewResultFromResult(r)
	if err != nil {
		return fmt.Errorf("convert result of ADD: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result = result
	return nil
}

// Delete calls DEL for all attachments, kills the processes, and removes the network namespace and the
// cgroup. It removes the latter two also when a DEL fails. It does nothing for a pod that was deleted before.
func (p *Pod) Delete(ctx context.Context) error {
	p.deleting.Lock()
	defer p.deleting.Unlock()
	p.mu.Lock()
	attached, deleted := slices.Clone(p.attached), p.deleted
	p.deleted = true
	p.mu.Unlock()
	if deleted {
		return nil
	}
	var errs []error
	for _, a := range slices.Backward(attached) {
		errs = append(errs, p.node.DEL(ctx, a.conflist, p, a.edits...))
	}
	if p.sockets != "" {
		errs = append(errs, removeCgroup(p.sockets))
	}
	if p.netns != "" && !p.spec.HostNetwork {
		errs = append(errs, dropNetNS(p.netns))
	}
	return errors.Join(append(errs, p.node.forget(p))...)
}

// forget removes the pod's cgroup after its last sandbox, and the cgroup's parents if they do not belong to
// the node and have no other use.
func (n *Node) forget(p *Pod) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pods = slices.DeleteFunc(n.pods, func(q *Pod) bool { return q == p })
	if n.cgroups[p.podCgroup]--; n.cgroups[p.podCgroup] > 0 {
		return nil
	}
	delete(n.cgroups, p.podCgroup)
	if err := removeCgroup(p.podCgroup); err != nil {
		return err
	}
	if p.spec.Cgroup != "" {
		for dir := path.Dir(p.podCgroup); dir != filepath.Dir(n.cgroup) && os.Remove(dir) == nil; {
			dir = path.Dir(dir)
		}
	}
	return nil
}
