// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/recorded"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// The kubelet's cgroup of a burstable pod, with both drivers.
func systemdPod(uid string) string {
	return "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(uid, "-",
		"_") + ".slice"
}

func cgroupfsPod(uid string) string { return "/kubepods/burstable/pod" + uid }

// UIDs of pods in cgroups at the root of the hierarchy, which tests of several processes share.
var uidA, uidB, uidC, uidD = testUID('a'), testUID('b'), testUID('c'), testUID('d')

const uidStem = "5ab61e35-52a4-4b5b-8c1e-"

func testUID(last rune) string { return fmt.Sprintf("%s%011x%c", uidStem, os.Getpid(), last) }

// kubePod makes a pod in the cgroup that the kubelet's driver would make.
func (w *world) kubePod(name, uid string, driver func(string) string,
	annotations map[string]string) (*lab.Pod, ask.Request) {
	w.Helper()
	parent := driver(uid)
	p := w.pod(lab.PodSpec{Name: name, UID: uid, Cgroup: parent, Annotations: annotations})
	return p, request(p, parent)
}

func TestCRIO(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		driver     func(string) string
		told       func(string) string
	}{
		{"systemd driver", "crio-systemd", systemdPod,
			func(uid string) string { return path.Base(systemdPod(uid)) }},
		{"cgroupfs driver", "crio-cgroupfs", cgroupfsPod, cgroupfsPod},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.file, "CRI-O, "+tt.name, "1.1.0")
			w.row.Version = "ocicni " + version(t, "runtime", "github.com/cri-o/ocicni")
			client, askClient := w.kubePod("client", uidA, tt.driver, nil)
			server, askServer := w.kubePod("server", uidB, tt.driver, nil)
			gone, askGone := w.kubePod("gone", uidC, tt.driver, nil)
			setup := w.setup()
			setup.Systemd = tt.name == "systemd driver"
			crio := w.start("crio", setup)

			crio.do("status", ask.Request{})
			crio.do("add", askClient)
			// Its add ends with a CHECK; without a result of that the pod would be removed.
			if last := w.last("CHECK"); last.ContainerID != client.ContainerID() {
				t.Errorf("the last CHECK was of %s, want %s", last.ContainerID, client.ContainerID())
			}
			ip := crio.do("add", askServer)
			crio.do("add", askGone)
			told := tt.told(uidC)
			w.wantCgroupPath(&told)
			a := w.wantCgroup(client.ContainerID(), client.CgroupPath(), "runtimeConfig.cgroupPath")
			b := w.wantCgroup(server.ContainerID(), server.CgroupPath(), "runtimeConfig.cgroupPath")
			w.row.Cgroup = "runtimeConfig.cgroupPath: " + w.describe(tt.driver, told)
			size := w.talk(client, server, ip)
			w.wantRedirected(size, a.NetNSCookie, b.NetNSCookie)
			w.note("CHECK right after ADD passes")

			w.collect(crio, gone, askClient, askServer)
			size += w.talk(client, server, ip) // still accelerated
			w.wantRedirected(size, a.NetNSCookie, b.NetNSCookie)
			w.unchain(crio, client, server, askClient, askServer)
		})
	}
}

// describe replaces the parts that differ from pod to pod.
func (w *world) describe(driver func(string) string, told string) string {
	uid := strings.NewReplacer(strings.ReplaceAll(uidC, "-", "_"), "UID", uidC, "UID")
	if filepath.IsAbs(told) {
		return "`" + uid.Replace(told) + "`"
	}
	return "`" + uid.Replace(told) + "`, the last part of `" + uid.Replace(driver(uidC)) + "`"
}

// collect makes the runtime collect garbage: one pod is not valid any more.
func (w *world) collect(crio *daemon, gone *lab.Pod, valid ...ask.Request) {
	w.Helper()
	// Its add has cached the attachment, and GC would begin with a DEL of cached attachments that are not
	// valid. The cache entry is removed, so that GC itself has to remove it.
	w.forget(gone.ContainerID())
	before := len(w.calls())
	crio.do("gc", ask.Request{Valid: valid})
	gc := w.last("GC")
	if gc.Conf.Valid == nil || len(*gc.Conf.Valid) != len(valid) {
		w.Fatalf("GC got %+v, want %d attachments", gc.Conf.Valid, len(valid))
	}
	for i, v := range *gc.Conf.Valid {
		if want := (recorded.Attachment{ContainerID: valid[i].ID, IfName: "eth0"}); v != want {
			w.Errorf("GC got %+v, want %+v", v, want)
		}
	}
	for _, c := range w.calls()[before:] {
		if c.Command == "DEL" {
			w.Errorf("a DEL came with the GC: %+v", c)
		}
	}
	w.wantNoRecord(gone.ContainerID())
	for _, v := range valid {
		if _, ok := w.record(v.ID); !ok {
			w.Errorf("GC has removed the record of container %s, which is valid", v.ID)
		}
	}
	w.note("GC removes what is not listed and nothing else")
}

// unchain removes sockmap from the conflist while pods run, which CRI-O notices. It calls DEL by its cache of
// the ADD.
func (w *world) unchain(crio *daemon, client, server *lab.Pod, requests ...ask.Request) {
	w.Helper()
	w.writeConflist(w.conflist("1.1.0", "sockmap"))
	before := len(w.calls())
	for _, r := range requests {
		crio.do("del", r)
	}
	var deleted []string
	for _, c := range w.calls()[before:] {
		if c.Command == "DEL" {
			deleted = append(deleted, c.ContainerID)
		}
	}
	if len(deleted) != 2 || deleted[0] != client.ContainerID() || deleted[1] != server.ContainerID() {
		w.Errorf("after sockmap was taken out of the conflist, DEL was called for %q", deleted)
	}
	w.wantNoRecord(client.ContainerID())
	w.wantNoRecord(server.ContainerID())
	w.wantLinks(0)
	w.note("DEL from the cached list after sockmap was taken out of it")
}

// forget removes libcni's cache of a container.
func (w *world) forget(containerID string) {
	w.Helper()
	cached, err := filepath.Glob(filepath.Join(w.setup().CacheDir, "results", "*-"+containerID+"-*"))
	if err != nil || len(cached) != 1 {
		w.Fatalf("cached of container %s: %q, %v", containerID, cached, err)
	}
	remove(w.T, cached[0])
}
