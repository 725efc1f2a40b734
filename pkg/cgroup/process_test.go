// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCgroupOfTheProcess(t *testing.T) {
	const pod = systemdPod
	for _, c := range []struct{ name, at, want string }{
		{"nerdctl, systemd", "system.slice/nerdctl-abc.scope", "system.slice/nerdctl-abc.scope"},
		{"nerdctl and ctr, cgroupfs", "default/abc", "default/abc"},
		{"cri-dockerd, systemd: the pod", pod + "/docker-abc.scope", pod},
		{"cri-dockerd, cgroupfs: the pod", cgroupfsPod + "/abc", cgroupfsPod},
		{"crun: the scope above its own cgroup", "system.slice/nerdctl-abc.scope/container",
			"system.slice/nerdctl-abc.scope"},
		{"crun in a pod", pod + "/crio-abc.scope/container", pod},
		{"process in the pod cgroup itself", cgroupfsPod, cgroupfsPod},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newTree(t, c.at)
			ns := startProcess(t, filepath.Join(m.Path, c.at), unix.CLONE_NEWNET)
			got, err := Find(m, Request{NetNS: ns})
			expect(t, m, got, err, c.want, SourceNetNS)
			if len(got.Notes) != 2 {
				t.Errorf("notes %q, want those on two sources that are not given", got.Notes)
			}
		})
	}
	t.Run("path through a thread", func(t *testing.T) {
		m := newTree(t, "default/abc")
		ns := startProcess(t, filepath.Join(m.Path, "default/abc"), unix.CLONE_NEWNET)
		pid := strings.Split(ns, "/")[2]
		got, err := Find(m, Request{NetNS: fmt.Sprintf("/proc/%s/task/%s/ns/net", pid, pid)})
		expect(t, m, got, err, "default/abc", SourceNetNS)
	})
	t.Run("in the real mount", func(t *testing.T) {
		m := newTree(t, "default/abc")
		ns := startProcess(t, filepath.Join(m.Path, "default/abc"), unix.CLONE_NEWNET)
		real := realMount(t)
		rel, _ := below(real.Path, filepath.Join(m.Path, "default/abc"))
		got, err := Find(real, Request{NetNS: ns})
		expect(t, real, got, err, rel, SourceNetNS)
	})
	t.Run("in a bind mount of a part of the hierarchy", func(t *testing.T) {
		m := newTree(t, "runtime", "node/default/abc")
		ns := startProcess(t, filepath.Join(m.Path, "node/default/abc"), unix.CLONE_NEWNET)
		bind := Mount{Path: t.TempDir()}
		got := task{
			Bind:    [2]string{filepath.Join(m.Path, "node"), bind.Path},
			Mount:   bind,
			Request: Request{NetNS: ns},
		}.run(t, filepath.Join(m.Path, "runtime"))
		if got.Err != "" || got.Found.Path != filepath.Join(bind.Path, "default/abc") ||
			got.Found.ID != idOf(t, filepath.Join(m.Path, "node/default/abc")) {
			t.Errorf("got %+v, want default/abc below %s", got, bind.Path)
		}
	})
}

func TestProcessesThatAreRefused(t *testing.T) {
	m := newTree(t, "host", "sub", "runtime")
	real := realMount(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, ns string
		m        Mount
		why      string
	}{
		{"none given", "", m, "not given"},
		{"mounted namespace", "/run/netns/cni-1", m, "does not name a process"},
		{"path that only looks like it", "/proc/1/ns/net/../mnt", m, "does not name a process"},
		{"process that is gone", fmt.Sprintf("/proc/%d/ns/net", gone.Process.Pid), m, "no such file"},
		{"network namespace of the host", startProcess(t, filepath.Join(m.Path, "host"), 0), m,
			"namespace of the host"},
		{"root cgroup", startProcess(t, real.Path, unix.CLONE_NEWNET), real, "is the cgroup2 root"},
		{"cgroup outside of the mount", startProcess(t, filepath.Join(m.Path, "host"), unix.CLONE_NEWNET),
			Mount{Path: filepath.Join(m.Path, "sub")}, "is not below the mount"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Find(c.m, Request{NetNS: c.ns})
			expectRoot(t, c.m, got, err, SourceNetNS, c.why)
		})
	}
	t.Run("cgroup outside of the own cgroup namespace", func(t *testing.T) {
		ns := startProcess(t, filepath.Join(m.Path, "sub"), unix.CLONE_NEWNET)
		got := task{NewCgroupNS: true, Mount: m, Request: Request{NetNS: ns}}.run(t,
			filepath.Join(m.Path, "runtime"))
		expectRoot(t, m, got.Found, nil, SourceNetNS, "outside of this cgroup namespace")
	})
	t.Run("zombie", func(t *testing.T) {
		cmd := exec.Command("sleep", "60")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, UseCgroupFD: true,
			CgroupFD: openDir(t, filepath.Join(m.Path, "sub"))}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Wait() })
		cmd.Process.Kill()
		// Wait without reaping it, so that it stays a zombie.
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		got, err := Find(m, Request{NetNS: fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)})
		expectRoot(t, m, got, err, SourceNetNS, "no such file")
	})
}

func TestReusedPIDIsDetected(t *testing.T) {
	m := newTree(t, "a")
	dir := filepath.Join(m.Path, "a")
	first, second := startProcess(t, dir, unix.CLONE_NEWNET), startProcess(t, dir, unix.CLONE_NEWNET)
	// A link that changes its target simulates a PID that is reused.
	link := filepath.Join(t.TempDir(), "ns")
	point := func(ns string) {
		os.Remove(link)
		if err := os.Symlink(ns, link); err != nil {
			t.Fatal(err)
		}
	}
	point(first)
	name, err := stableName(link, func() (string, error) { return "/x", nil })
	if name != "/x" || err != nil {
		t.Errorf("same process: got %q, %v", name, err)
	}
	name, err = stableName(link, func() (string, error) { point(second); return "/x", nil })
	if err == nil {
		t.Errorf("got %q although the process changed", name)
	}
	name, err = stableName(link, func() (string, error) { point("/nowhere"); return "/x", nil })
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %q, %v although the process went away", name, err)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"/":            true,
		"/a/b":         true,
		"/..a":         true,
		"/a (deleted)": false,
		"/..":          false,
		"/../a":        false,
		"a":            false,
		"":             false,
	} {
		if err := checkName(name); (err == nil) != ok {
			t.Errorf("checkName(%q): %v", name, err)
		}
	}
}

func BenchmarkFindProcess(b *testing.B) {
	m := newTree(b, "default/abc")
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, UseCgroupFD: true,
		CgroupFD: openDir(b, filepath.Join(m.Path, "default/abc"))}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	real, r := realMount(b), Request{NetNS: fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)}
	for b.Loop() {
		if f, err := Find(real, r); err != nil || f.Root {
			b.Fatal(f, err)
		}
	}
}
