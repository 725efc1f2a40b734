// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

const (
	uid      = "28ce45bc-63f8-48a3-a99b-cfb9e63c856c"
	unitUID  = "28ce45bc_63f8_48a3_a99b_cfb9e63c856c"
	otherUID = "00000000-63f8-48a3-a99b-cfb9e63c856c"

	systemdPod  = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + unitUID + ".slice"
	cgroupfsPod = "kubepods/burstable/pod" + uid
	kindPod     = "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + unitUID + ".slice"
)

func TestRuntimePathInEverySpelling(t *testing.T) {
	for _, c := range []struct{ name, cgroup, value string }{
		{"containerd, systemd driver", systemdPod, "/" + systemdPod},
		{"containerd, cgroupfs driver", cgroupfsPod, "/" + cgroupfsPod},
		{"containerd on kind", kindPod, "/" + kindPod},
		{"CRI-O, systemd manager: the last part only", systemdPod, filepath.Base(systemdPod)},
		{"CRI-O on kind", kindPod, filepath.Base(kindPod)},
		{"last part after a slash", systemdPod, "/" + filepath.Base(systemdPod)},
		{"slice given below another one", "test.slice/test-pod.slice", "/elsewhere.slice/test-pod.slice"},
		{"slice of one level, as critest has it", "test.slice", "/test.slice"},
		{"relative path", cgroupfsPod, cgroupfsPod},
		{"trailing and double slashes", cgroupfsPod, "//kubepods/./burstable//pod" + uid + "/"},
		{"OCI triple", "system.slice/cri-containerd-abc.scope", "system.slice:cri-containerd:abc"},
		{"OCI triple in nested slices", systemdPod + "/crio-abc.scope", filepath.Base(systemdPod) + ":crio:abc"},
		{"OCI triple without slice", "system.slice/docker-abc.scope", ":docker:abc"},
		{"OCI triple without prefix", "a.slice/abc.scope", "a.slice::abc"},
		{"OCI triple that names a slice", "a.slice/b.slice", "a.slice:x:b.slice"},
		{"colons that are part of a name", "a:b:c", "/a:b:c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newTree(t, c.cgroup)
			got, err := Find(m, Request{Runtime: c.value, PodUID: otherUID, NetNS: "/run/netns/x"})
			expect(t, m, got, err, c.cgroup, SourceRuntime)
			if len(got.Notes) > 0 {
				t.Errorf("notes %q on the usual path, want none", got.Notes)
			}
		})
	}
	t.Run("path in the file system", func(t *testing.T) {
		m := newTree(t, cgroupfsPod)
		got, err := Find(m, Request{Runtime: filepath.Join(m.Path, cgroupfsPod)})
		expect(t, m, got, err, cgroupfsPod, SourceRuntime)
	})
	t.Run("verbatim before expanded", func(t *testing.T) {
		m := newTree(t, "a-b.slice", "a.slice/a-b.slice")
		got, err := Find(m, Request{Runtime: "a-b.slice"})
		expect(t, m, got, err, "a-b.slice", SourceRuntime)
	})
}

func TestRuntimePathsThatAreRefused(t *testing.T) {
	m := newTree(t, "a/b", "outside")
	inner := Mount{Path: filepath.Join(m.Path, "a")}
	for _, c := range []struct{ name, value, why string }{
		{"none", "", "not given"},
		{"root", "/", "is the cgroup2 root"},
		{"root in many words", "//.//", "is the cgroup2 root"},
		{"root as a slice", "-.slice", "is the cgroup2 root"},
		{"the mount itself", inner.Path, "is the cgroup2 root"},
		{"missing", "/kubepods/pod1", "no such file"},
		{"missing slice, named as the runtime did", "x-y.slice", filepath.Join(inner.Path, "x-y.slice")},
		{"up and out", "/../outside", "contains"},
		{"up and out, relative", "b/../../outside", "contains"},
		{"up but not out", "/b/../b", "contains"},
		{"file", "/cgroup.procs", "not a directory"},
		{"zero byte", "/b\x00", "invalid argument"},
		{"slice name that systemd has not", "a--b.slice", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Find(inner, Request{Runtime: c.value})
			expectRoot(t, inner, got, err, SourceRuntime, c.why)
		})
	}
}

func TestForeignFileSystemBelowTheMountIsRefused(t *testing.T) {
	m := newTree(t, "runtime", "covered")
	got := task{
		Cover:   filepath.Join(m.Path, "covered"),
		Mount:   m,
		Request: Request{Runtime: "/covered"},
	}.run(t, filepath.Join(m.Path, "runtime"))
	expectRoot(t, m, got.Found, nil, SourceRuntime, "leads out of the cgroup2 mount")
}

func TestLinksAreNotFollowed(t *testing.T) {
	m := newTree(t, "real")
	link := filepath.Join(t.TempDir(), "link")
	if err := unix.Symlink(filepath.Join(m.Path, "real"), link); err != nil {
		t.Fatal(err)
	}
	got, err := Find(m, Request{Runtime: link})
	expectRoot(t, m, got, err, SourceRuntime, "no such file")
}

func TestConfiguredCgroup(t *testing.T) {
	m := newTree(t, "mine", systemdPod)
	t.Run("comes before all other sources", func(t *testing.T) {
		got, err := Find(m, Request{Explicit: "/mine", Runtime: "/" + systemdPod, PodUID: uid})
		expect(t, m, got, err, "mine", SourceConfiguration)
	})
	t.Run("may be a path in the file system", func(t *testing.T) {
		got, err := Find(m, Request{Explicit: filepath.Join(m.Path, "mine")})
		expect(t, m, got, err, "mine", SourceConfiguration)
	})
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{"missing", "/missing", fs.ErrNotExist},
		{"root", "/", ErrRoot},
		{"file", "/cgroup.procs", unix.ENOTDIR},
	} {
		t.Run("is never replaced by another source: "+c.name, func(t *testing.T) {
			got, err := Find(m, Request{Explicit: c.value, Runtime: "/" + systemdPod, PodUID: uid})
			if !errors.Is(err, c.want) || !cmp.Equal(got, Found{}) {
				t.Errorf("got %+v, %v; want %v", got, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), `cgroupPath "`+c.value+`"`) {
				t.Errorf("error %q does not name key and value", err)
			}
		})
	}
}

func TestOwnCgroupIsNeverUsed(t *testing.T) {
	m := newTree(t, "node/runtime/below", "node/pod", "node/runtime-2")
	own := filepath.Join(m.Path, "node/runtime")
	find := func(r Request) outcome { return task{Mount: m, Request: r}.run(t, own) }

	for name, value := range map[string]string{"own": "/node/runtime", "ancestor": "/node"} {
		t.Run(name, func(t *testing.T) {
			got := find(Request{Runtime: value})
			expectRoot(t, m, got.Found, nil, SourceRuntime, ErrOwn.Error())
			if got := find(Request{Explicit: value}); !strings.Contains(got.Err, ErrOwn.Error()) {
				t.Errorf("configured: got %+v, want an error", got)
			}
		})
	}
	for _, rel := range []string{"node/pod", "node/runtime-2", "node/runtime/below"} {
		t.Run("but "+rel+" is", func(t *testing.T) {
			got := find(Request{Runtime: "/" + rel})
			expect(t, m, got.Found, nil, rel, SourceRuntime)
		})
	}
	t.Run("not as a pod either", func(t *testing.T) {
		// A node whose runtime runs in a pod.
		m := newTree(t, cgroupfsPod+"/container")
		got := task{Mount: m, Request: Request{PodUID: uid}}.run(t, filepath.Join(m.Path, cgroupfsPod, "container"))
		expectRoot(t, m, got.Found, nil, SourcePodUID, ErrOwn.Error())
	})
	t.Run("not as that of a process either", func(t *testing.T) {
		ns := startProcess(t, own, unix.CLONE_NEWNET)
		got := find(Request{NetNS: ns})
		expectRoot(t, m, got.Found, nil, SourceNetNS, ErrOwn.Error())
	})
	t.Run("in the real mount", func(t *testing.T) {
		real := realMount(t)
		rel, _ := below(real.Path, own)
		got := task{Mount: real, Request: Request{Runtime: "/" + filepath.Dir(rel)}}.run(t, own)
		expectRoot(t, real, got.Found, nil, SourceRuntime, ErrOwn.Error())
	})
}

func TestOwnCgroupThatCannotBeNamed(t *testing.T) {
	// In its own cgroup namespace, but with the mounts of the host.
	m := newTree(t, "agent", "pod")
	got := task{NewCgroupNS: true, Mount: m, Request: Request{Runtime: "/pod"}}.run(t,
		filepath.Join(m.Path, "agent"))
	if got.Err != "" {
		t.Fatal(got.Err)
	}
	expect(t, m, got.Found, nil, "pod", SourceRuntime)
	if len(got.Found.Notes) != 1 || !strings.Contains(got.Found.Notes[0], "own cgroup not compared") {
		t.Errorf("notes %q, want that the own cgroup is not known", got.Found.Notes)
	}
}

func TestOrderOfSources(t *testing.T) {
	m := newTree(t, "configured", "runtime", cgroupfsPod, "process")
	all := Request{
		Explicit: "/configured", Runtime: "/runtime", PodUID: uid,
		NetNS: startProcess(t, filepath.Join(m.Path, "process"), unix.CLONE_NEWNET),
	}
	for _, c := range []struct {
		rel  string
		from Source
		drop func()
	}{
		{"configured", SourceConfiguration, func() { all.Explicit = "" }},
		{"runtime", SourceRuntime, func() { all.Runtime = "/gone" }},
		{cgroupfsPod, SourcePodUID, func() { all.PodUID = "../x" }},
		{"process", SourceNetNS, func() { all.NetNS = "/run/netns/x" }},
	} {
		got, err := Find(m, all)
		expect(t, m, got, err, c.rel, c.from)
		c.drop()
	}
	got, err := Find(m, all)
	expectRoot(t, m, got, err, SourceNetNS, "does not name a process")
	want := []string{
		`runtimeConfig.cgroupPath: no usable cgroup "` + m.Path + `/gone": no such file or directory`,
		`K8S_POD_UID: "../x" is not a pod UID`,
		`CNI_NETNS process: "/run/netns/x" does not name a process`,
	}
	// Sources of other runtimes have a note, too.
	notes := slices.DeleteFunc(got.Notes, func(note string) bool {
		return strings.HasSuffix(note, ": "+errNotGiven.Error())
	})
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

func TestEverySourceHasARowInRuntimesMD(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "RUNTIMES.md"))
	if err != nil {
		t.Fatal(err)
	}
	rest := string(text)
	for _, s := range Sources() {
		row := fmt.Sprintf("\n| `%s` | ", s)
		_, after, ok := strings.Cut(rest, row)
		if !ok {
			t.Errorf("docs/RUNTIMES.md has no row %q after the rows of the sources that Find tries before",
				strings.TrimSpace(row))
			continue
		}
		rest = after
	}
}

func TestFindWithoutAnySourceYieldsTheRoot(t *testing.T) {
	m := newTree(t)
	got, err := Find(m, Request{ContainerID: "c1"})
	expectRoot(t, m, got, err, SourceRuntime, "not given")
}

func TestMountThatIsNotCgroup2(t *testing.T) {
	if _, err := Find(Mount{Path: t.TempDir()}, Request{}); !errors.Is(err, ErrNotCgroup2) {
		t.Errorf("got %v, want ErrNotCgroup2", err)
	}
	if _, err := Find(Mount{Path: filepath.Join(t.TempDir(), "x")}, Request{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestExpandSlice(t *testing.T) {
	for name, want := range map[string]string{
		"a.slice":       "a.slice",
		"a-b-c.slice":   "a.slice/a-b.slice/a-b-c.slice",
		"a_b-c.d.slice": "a_b.slice/a_b-c.d.slice",
		"-.slice":       "", "-a.slice": "", "a-.slice": "", "a--b.slice": "", ".slice": "",
		"a.scope": "", "a": "", "": "", "-": "", "a/b.slice": "",
	} {
		got, err := expandSlice(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("expandSlice(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := expandSlice("-.slice"); !errors.Is(err, ErrRoot) {
		t.Errorf("-.slice: %v, want ErrRoot", err)
	}
}

// The usual path on a node with containerd or CRI-O. It must stay well below 0.2 ms.
func BenchmarkFindRuntimePath(b *testing.B) {
	m := newTree(b, systemdPod)
	rel, _ := below(realMount(b).Path, m.Path)
	for name, c := range map[string]struct {
		m     Mount
		value string
	}{
		"path of containerd": {realMount(b), "/" + rel + "/" + systemdPod},
		"slice of CRI-O":     {m, filepath.Base(systemdPod)},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if f, err := Find(c.m, Request{Runtime: c.value}); err != nil || f.Root {
					b.Fatal(f, err)
				}
			}
		})
	}
}
