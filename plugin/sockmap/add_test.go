// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/cgroup"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/sys/unix"
)

// oddResults are results of other plugins. The plugin passes each on unchanged, except that it converts one
// of another version than that of the call.
var oddResults = map[string]string{
	"empty":              `{}`,
	"ordinary":           `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}],"ips":[{"address":"10.0.0.2/24"}]}`,
	"unknown keys":       `{"cniVersion":"1.1.0","x-vendor":{"nested":[1,{"a":null}]},"interfaces":[{"name":"a","speed":9}]}`,
	"big numbers":        `{"id":18446744073709551615,"pi":3.14159265358979323846264338327950288,"exp":1E400}`,
	"white space":        "{\n\t\"cniVersion\" :  \"1.0.0\" ,\r\n \"dns\" : { }\n}",
	"escapes":            `{"a":"\u003c\/script\u003e <&> \ud83d\ude00 é","\u0062":"\u0000"}`,
	"keys in odd order":  `{"routes":[],"ips":[],"cniVersion":"0.4.0","interfaces":[]}`,
	"a key twice":        `{"a":1,"a":2}`,
	"another version":    `{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"}}`,
	"braces in a string": `{"a":"}{\"prevResult\":{"}`,
}

func TestPrevResultIsPassedOnByteByByte(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	for _, version := range supported.SupportedVersions() {
		for name, result := range oddResults {
			for mode, enabled := range map[string]bool{"accelerated": true, "opted out": false} {
				t.Run(fmt.Sprintf("%s, %s, %s", version, name, mode), func(t *testing.T) {
					stdin := fmt.Sprintf(`{"cniVersion":%q,"name":"net","type":"sockmap","bpffsPath":%q,"enabled":%v,`+
						`"cgroupPath":%q,"prevResult":%s}`, version, w.node.BPFFS(), enabled, p.CgroupPath(), result)
					a := run(t, env("ADD", p), []byte(stdin))
					if versionOf(result) != version && versionOf(result) != "" {
						if a.err != nil || versionOf(a.stdout) != version {
							t.Errorf("got %q, %v; want it converted to %s", a.stdout, a.err, version)
						}
						return
					}
					if a.err != nil || a.stdout != result {
						t.Errorf("got %q, %v; want %q", a.stdout, a.err, result)
					}
				})
			}
		}
	}
}

func versionOf(result string) string {
	var of struct {
		Version string `json:"cniVersion"`
	}
	_ = json.Unmarshal([]byte(result), &of)
	return of.Version
}

func TestAddAcceleratesAndDelLeavesNothing(t *testing.T) {
	w := newWorld(t)
	one, two := w.pod(), w.pod()
	a := w.mustAdd(one, nil)
	expectTexts(t, "the log", a.stderr, "accelerated", "runtimeConfig.cgroupPath", one.ContainerID(),
		"loaded=true")
	w.mustAdd(two, nil)
	w.expectAccelerated(one, two)
	if r := w.records()[one.ContainerID()]; r.PodNamespace != "default" || r.PodName != one.Spec().Name {
		t.Errorf("record %+v does not name the pod", r)
	}
	for _, p := range []string{"first", "second"} {
		if a := run(t, env("DEL", one), w.conf(one, nil)); a.err != nil || a.stdout != "" {
			t.Errorf("%s DEL: %v, %q", p, a.err, a.stdout)
		}
		w.expectAccelerated(two)
	}
	run(t, env("DEL", two), w.conf(two, nil))
	w.expectAccelerated()
}

// cgroupCalls are the calls of ADD by which the plugin finds the pod's cgroup, one or more for each source.
// What a row leaves out is not passed: K8S_POD_UID and a CNI_NETNS of a process, too.
var cgroupCalls = []struct {
	name   string
	source cgroup.Source
	path   func(id string) string // of the pod's cgroup, with this CNI_CONTAINERID; nil: as the kubelet names it
	conf   func(cgroup string) keys
	env    func(w *world, p *lab.Pod) []string
}{
	{name: "configuration", source: cgroup.SourceConfiguration,
		conf: func(cgroup string) keys { return keys{"cgroupPath": cgroup} }},
	{name: "path", source: cgroup.SourceRuntime, conf: runtimeCgroup},
	{
		name: "base name of a slice", source: cgroup.SourceRuntime,
		conf: func(cgroup string) keys { return runtimeCgroup(path.Base(cgroup)) },
		path: func(id string) string { return "sockmap.slice/sockmap-" + id[:8] + ".slice" },
	},
	{name: "pod UID", source: cgroup.SourcePodUID, env: func(_ *world, p *lab.Pod) []string {
		return []string{"CNI_ARGS=K8S_POD_UID=" + p.Spec().UID}
	}},
	{name: "process", source: cgroup.SourceNetNS, env: func(w *world, p *lab.Pod) []string {
		return []string{fmt.Sprintf("CNI_NETNS=/proc/%d/ns/net", w.process(p))}
	}},
	{name: "nothing", source: cgroup.SourceRoot},
}

func runtimeCgroup(cgroup string) keys {
	return keys{"runtimeConfig": map[string]any{"cgroupPath": cgroup}}
}

func TestTheCgroupIsFoundFromEverySource(t *testing.T) {
	node := newWorld(t).node
	for _, source := range cgroup.Sources() {
		found := false
		for _, c := range cgroupCalls {
			if c.source != source {
				continue
			}
			found = true
			t.Run(c.name, func(t *testing.T) {
				w := &world{t, node}
				spec := lab.PodSpec{ContainerID: rand.Text()}
				if c.path != nil {
					spec.Cgroup = c.path(spec.ContainerID)
				}
				p := labtest.NewPod(t, node, spec)
				change, vars := keys{"runtimeConfig": nil}, append(env("ADD", p), "CNI_ARGS=")
				if c.conf != nil {
					maps.Copy(change, c.conf(w.cgroup(p)))
				}
				if c.env != nil {
					vars = append(vars, c.env(w, p)...)
				}
				w.expectSource(p, vars, w.conf(p, change), source)
			})
		}
		if !found {
			t.Errorf("cgroupCalls has no call for the source %q", source)
		}
	}
}

// expectSource expects that this ADD attaches to the cgroup of p, or to the root for SourceRoot.
func (w *world) expectSource(p *lab.Pod, vars []string, conf []byte, source cgroup.Source) {
	w.Helper()
	a := run(w, vars, conf)
	if a.err != nil {
		w.Fatalf("ADD: %v\n%s", a.err, a.stderr)
	}
	w.Cleanup(func() { run(w, env("DEL", p), conf) })
	want := p.CgroupPath()
	if source == cgroup.SourceRoot {
		want = filepath.Dir(w.node.CgroupPath())
	}
	r := w.records()[p.ContainerID()]
	if !r.Accelerated() || r.CgroupSource != string(source) || r.CgroupPath != want {
		w.Errorf("attachment %+v, want the cgroup %q from the source %q", r, want, source)
	}
	expectTexts(w, "the log", a.stderr, string(source))
}

// process starts a process in p that lives as long as the test.
func (w *world) process(p *lab.Pod) int {
	w.Helper()
	cmd := p.Command(w.Context(), "sleep", "infinity")
	if err := p.Start(cmd); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestOptedOutByConfigurationOrAnnotation(t *testing.T) {
	for _, c := range []struct {
		name       string
		enabled    bool
		annotation string
		want       bool
		reason     string
	}{
		{"enabled", true, "", true, ""},
		{"disabled", false, "", false, "configuration"},
		{"annotation says no", true, "false", false, "annotation sockmap-cni/accelerate"},
		{"annotation says yes", false, "true", true, ""},
		{"annotation says nonsense", true, "perhaps", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			p, other := w.pod(), w.pod()
			annotations := map[string]string{}
			if c.annotation != "" {
				annotations["sockmap-cni/accelerate"] = c.annotation
			}
			change := keys{"enabled": c.enabled, "required": true, "runtimeConfig": map[string]any{
				"cgroupPath": w.cgroup(p), "io.kubernetes.cri.pod-annotations": annotations,
			}}
			w.mustAdd(p, change)
			if !c.want {
				w.expectUntouched() // nothing is loaded for a container that asks for nothing
				w.mustAdd(other, nil)
				w.mustAdd(p, change)
			}
			r := w.records()[p.ContainerID()]
			if r.Accelerated() != c.want || !strings.Contains(r.Declined, c.reason) || !r.Registered {
				t.Errorf("record %+v, want accelerated %v and the reason %q", r, c.want, c.reason)
			}
		})
	}
}

func TestWrongInputOfPodsAndRuntimesIsOnlyLogged(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	vars := append(env("ADD", p),
		"CNI_ARGS=;;K8S_POD_NAMESPACE=../../etc;K8S_POD_NAME=a=b;nonsense;IgnoreUnknown")
	a := run(t, vars, w.conf(p, keys{"surprise": 1, "runtimeConfig": map[string]any{
		"cgroupPath": w.cgroup(p), "io.kubernetes.cri.pod-annotations": map[string]any{"sockmap-cni/accelerate": 7},
	}}))
	if a.err != nil {
		t.Fatalf("ADD: %v", a.err)
	}
	expectTexts(t, "the log", a.stderr, "K8S_POD_NAMESPACE", "nonsense", "surprise", "sockmap-cni/accelerate")
	w.expectAccelerated(p)
}

// The pod is what an operator looks for first.
func TestEachLineOfTheLogNamesThePod(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	name := fmt.Sprintf("pod=%s/%s", p.Spec().Namespace, p.Spec().Name)
	for _, verb := range []string{"ADD", "DEL"} {
		a := run(t, env(verb, p), w.conf(p, keys{"logLevel": "debug"}))
		if a.err != nil {
			t.Fatalf("%s: %v", verb, a.err)
		}
		lines := strings.Split(strings.TrimSpace(a.stderr), "\n")
		for _, line := range lines {
			if !strings.Contains(line, name) {
				t.Errorf("%s: %q does not contain %q", verb, line, name)
			}
		}
		if lines[0] == "" {
			t.Errorf("%s logs nothing", verb)
		}
	}
}

func TestLogFile(t *testing.T) {
	w := newWorld(t)
	p := w.pod()
	t.Run("takes the place of standard error", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		for range 2 {
			if a := w.mustAdd(p, keys{"logFile": path}); a.stderr != "" {
				t.Errorf("standard error has %q", a.stderr)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil || strings.Count(string(text), "msg=accelerated") != 2 {
			t.Errorf("the file has %q, %v; want both calls", text, err)
		}
	})
	t.Run("that cannot be opened is no reason to fail", func(t *testing.T) {
		a := w.mustAdd(p, keys{"logFile": "/proc/there/is/none"})
		expectTexts(t, "standard error", a.stderr, "/proc/there/is/none", "msg=accelerated")
	})
	t.Run("that is a FIFO without a reader does not hang", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "fifo")
		mkfifo(t, path)
		expectTexts(t, "standard error", w.mustAdd(p, keys{"logFile": path}).stderr, path)
	})
	t.Run("that is a FIFO whose reader does not read does not hang", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "fifo")
		mkfifo(t, path)
		reader, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(reader)
		for written := 0; !errors.Is(err, unix.EAGAIN) && written < 1<<30; written += 4096 {
			_, err = unix.Write(reader, make([]byte, 4096))
		}
		start := time.Now()
		if a := w.mustAdd(p, keys{"logFile": path}); a.stderr != "" {
			t.Errorf("standard error has %q", a.stderr)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("ADD took %v", took)
		}
	})
	t.Run("that somebody else has prepared is not written to", func(t *testing.T) {
		dir := t.TempDir()
		victim, link, file := filepath.Join(dir, "victim"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
		err := errors.Join(
			os.WriteFile(victim, nil, 0o600), os.Symlink(victim, link), os.WriteFile(file, nil, 0o600),
			os.Chown(file, 65534, 65534),
		)
		if err != nil {
			t.Fatal(err)
		}
		expectTexts(t, "standard error", w.mustAdd(p, keys{"logFile": link}).stderr, link, "symbolic link",
			"msg=accelerated")
		expectTexts(t, "standard error", w.mustAdd(p, keys{"logFile": file}).stderr, file, "uid 65534",
			"msg=accelerated")
		for _, path := range []string{victim, file} {
			if text, err := os.ReadFile(path); err != nil || len(text) > 0 {
				t.Errorf("%s has %q, %v", path, text, err)
			}
		}
	})
	t.Run("gets only what logLevel lets through", func(t *testing.T) {
		if a := w.mustAdd(p, keys{"logLevel": "error"}); a.stderr != "" {
			t.Errorf("standard error has %q", a.stderr)
		}
	})
}
