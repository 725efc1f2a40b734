// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// kindPod is the pod's cgroup on a node of kind, whose kubelet has --cgroup-root=/kubelet, relative to the
// node's root.
func kindPod(uid string) string {
	return "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" +
		strings.ReplaceAll(uid, "-", "_") + ".slice"
}

func kindPodfs(uid string) string { return "/kubelet/kubepods/burstable/pod" + uid }

// A node of kind is a container: the root of its cgroup namespace and of its cgroup2 mount is some cgroup of
// the host. The cgroup paths of its runtime begin there.
func TestKind(t *testing.T) {
	for _, tt := range []struct {
		name, file, source string
		driver             func(string) string
		parent             bool // the runtime passes cgroupPath
	}{
		{"cgroupPath, systemd driver", "kind-cgrouppath", "runtimeConfig.cgroupPath", kindPod, true},
		{"K8S_POD_UID, systemd driver", "kind-uid", "K8S_POD_UID", kindPod, false},
		{"K8S_POD_UID, cgroupfs driver", "kind-uid-cgroupfs", "K8S_POD_UID", kindPodfs, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.file, "containerd in a node of kind ("+tt.name+")", "1.1.0")
			w.row.Version = "go-cni " + version(t, "runtime", "github.com/containerd/go-cni")
			outer := filepath.Join(w.node.CgroupPath(), "docker", "kind-control-plane")
			pod := func(name, uid string) (*lab.Pod, ask.Request) {
				parent := tt.driver(uid)
				inHost := strings.TrimPrefix(outer, cgroupMount(t)) + parent
				p := w.pod(lab.PodSpec{Name: name, UID: uid, Cgroup: inHost})
				if !tt.parent {
					parent = ""
				}
				return p, request(p, parent)
			}
			client, askClient := pod("client", uidA)
			server, askServer := pod("server", uidB)
			containerd := w.start("containerd", w.setup(), w.nested(outer)...)
			containerd.do("status", ask.Request{})
			containerd.do("add", askClient)
			ip := containerd.do("add", askServer)
			if told := tt.driver(uidB); tt.parent {
				w.wantCgroupPath(&told)
			} else {
				w.wantCgroupPath(nil)
			}
			a := w.wantCgroup(client.ContainerID(), client.CgroupPath(), tt.source)
			b := w.wantCgroup(server.ContainerID(), server.CgroupPath(), tt.source)
			size := w.talk(client, server, ip)
			w.wantRedirected(size, a.NetNSCookie, b.NetNSCookie)
			w.row.Cgroup = tt.source + ": " + w.describe(tt.driver, tt.driver(uidC)) +
				" below the node's cgroup"
			for _, r := range []ask.Request{askClient, askServer} {
				containerd.do("del", r)
				w.wantNoRecord(r.ID)
			}
			w.wantLinks(0)
		})
	}
}

// nested returns the command that starts others in a node of kind: in its cgroup namespace, with its cgroup2
// mounted in the usual place, and itself in the cgroup of a service of the node.
func (w *world) nested(outer string) []string {
	w.Helper()
	service := filepath.Join(outer, "system.slice", "containerd.service")
	if err := os.MkdirAll(service, 0o755); err != nil {
		w.Fatal(err)
	}
	// The root of a cgroup namespace is the cgroup of the process that makes it.
	more := fmt.Sprintf("echo $$ >%s/cgroup.procs\nexec unshare --cgroup sh -c 'mount -t cgroup2 none /sys/fs/cgroup && "+
		"echo ready && exec sleep infinity'", outer)
	prefix := append(w.confine(more), "--cgroup")
	enter := fmt.Sprintf("echo $$ >%s/cgroup.procs && exec \"$@\"", service)
	return append([]string{"sh", "-c", enter, "sh"}, prefix...)
}
