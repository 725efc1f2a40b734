// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"os"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func TestContainerd(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		driver     func(string) string
	}{
		{"systemd driver", "go-cni-systemd", systemdPod},
		{"cgroupfs driver", "go-cni-cgroupfs", cgroupfsPod},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.file, "containerd's CRI, "+tt.name, "1.1.0")
			w.row.Version = "go-cni " + version(t, "runtime", "github.com/containerd/go-cni")
			annotations := map[string]string{"example.org/owner": "somebody"}
			off := map[string]string{"sockmap-cni/accelerate": "false"}
			client, askClient := w.kubePod("client", uidA, tt.driver, annotations)
			server, askServer := w.kubePod("server", uidB, tt.driver, annotations)
			out, askOut := w.kubePod("out", uidC, tt.driver, off)
			_, askLate := w.kubePod("late", uidD, tt.driver, nil)
			containerd := w.start("containerd", w.setup(), w.confine("")...)

			containerd.do("status", ask.Request{})
			containerd.do("add", askClient)
			ip := containerd.do("add", askServer)
			told := tt.driver(uidB)
			w.wantCgroupPath(&told)
			w.wantArg("K8S_POD_UID", true)
			if got := w.last("ADD").Conf.RuntimeConfig.Annotations["example.org/owner"]; got != "somebody" {
				t.Errorf("ADD got the annotation %q", got)
			}
			a := w.wantCgroup(client.ContainerID(), client.CgroupPath(), "runtimeConfig.cgroupPath")
			b := w.wantCgroup(server.ContainerID(), server.CgroupPath(), "runtimeConfig.cgroupPath")
			w.row.Cgroup = "runtimeConfig.cgroupPath: " + w.describe(tt.driver, tt.driver(uidC))
			w.wantRedirected(w.talk(client, server, ip), a.NetNSCookie, b.NetNSCookie)

			outIP := containerd.do("add", askOut)
			if r, ok := w.record(out.ContainerID()); !ok || r.Declined == "" {
				t.Errorf("the pod that opted out has the record %+v, %v", r, ok)
			}
			before := w.sums(a.NetNSCookie).RedirectedBytes
			w.talk(client, out, outIP)
			w.wantPlain(out.NetNSCookie())
			if after := w.sums(a.NetNSCookie).RedirectedBytes; after != before {
				t.Errorf("%d bytes to the pod that opted out were redirected", after-before)
			}
			w.note("a pod opts out by annotation")

			w.unchained(containerd, client, askClient, askLate)
			for _, r := range []ask.Request{askServer, askOut, askLate} {
				containerd.do("del", r)
				w.wantNoRecord(r.ID)
			}
			w.wantLinks(0)
		})
	}
}

// unchained removes sockmap from the conflist while a pod runs. containerd calls DEL by the current list, so
// sockmap does not notice that the pod ends. The next ADD finds its attachment.
func (w *world) unchained(containerd *daemon, pod *lab.Pod, gone, late ask.Request) {
	w.Helper()
	chained := w.conflist("1.1.0")
	w.writeConflist(w.conflist("1.1.0", "sockmap"))
	containerd.do("load", ask.Request{})
	containerd.do("del", gone)
	if err := pod.Delete(w.Context()); err != nil {
		w.Fatal(err)
	}
	if _, ok := w.record(gone.ID); !ok {
		w.Errorf("the record of container %s has gone, although sockmap was not called", gone.ID)
	}
	w.writeConflist(chained)
	containerd.do("load", ask.Request{})
	containerd.do("add", late)
	w.wantNoRecord(gone.ID)
	w.note("what is left of a pod that went while sockmap was out of the list is removed by the next ADD")
}
