// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	corev1 "k8s.io/api/core/v1"
)

const dir = "../../../conf/kubernetes/chart"

func load(t *testing.T) *Chart {
	t.Helper()
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render returns the decoded documents for a platform with additional values.
func render(t *testing.T, c *Chart, platform string, values map[string]any) objects {
	t.Helper()
	all, err := c.Platform(platform)
	if err != nil {
		t.Fatal(err)
	}
	merge(all, values)
	documents, _, err := c.Render("r", "ns", all)
	if err != nil {
		t.Fatalf("render: %v", err)
	}
	return decode(t, documents)
}

// merge writes src into dst, as a later -f of helm does.
func merge(dst, src map[string]any) {
	for k, v := range src {
		inner, ok := v.(map[string]any)
		if old, both := dst[k].(map[string]any); ok && both {
			merge(old, inner)
			continue
		}
		dst[k] = v
	}
}

// nested makes {a: {b: value}} of "a.b".
func nested(path string, value any) map[string]any {
	keys := strings.Split(path, ".")
	for _, k := range slices.Backward(keys) {
		value = map[string]any{k: value}
	}
	return value.(map[string]any)
}

// switches finds every boolean of the values, by path.
func switches(values map[string]any, prefix string, found map[string]bool) {
	for k, v := range values {
		switch v := v.(type) {
		case bool:
			found[prefix+k] = v
		case map[string]any:
			switches(v, prefix+k+".", found)
		}
	}
}

func platforms(t *testing.T, c *Chart) []string {
	t.Helper()
	names, err := c.Platforms()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 5 {
		t.Fatalf("only the platforms %v are there", names)
	}
	return append([]string{""}, names...)
}

func TestManifestsAreThoseOfTheChart(t *testing.T) {
	want, err := load(t).Manifests()
	if err != nil {
		t.Fatal(err)
	}
	committed := filepath.Join(dir, "..", "manifests")
	entries, err := os.ReadDir(committed)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(committed, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if string(content) != want[e.Name()] {
			t.Errorf("%s is not what the chart gives: run 'make manifests' and commit the result", e.Name())
		}
		delete(want, e.Name())
	}
	for name := range want {
		t.Errorf("%s is missing: run 'make manifests' and commit the result", name)
	}
}

// Every switch of values.yaml is inverted, on every platform; the API server would accept the result.
func TestChartIsValidForEverySwitchAndPlatform(t *testing.T) {
	c := load(t)
	found := map[string]bool{}
	switches(c.Defaults(), "", found)
	if len(found) < 8 {
		t.Fatalf("only the switches %v were found", slices.Sorted(maps.Keys(found)))
	}
	for _, platform := range platforms(t, c) {
		t.Run("platform="+platform, func(t *testing.T) {
			// "global" is empty, so it is no change.
			for _, path := range append(slices.Sorted(maps.Keys(found)), "global") {
				t.Run(path, func(t *testing.T) {
					values := map[string]any{}
					if path != "global" {
						values = nested(path, !found[path])
					}
					admissible(t, render(t, c, platform, values))
				})
			}
		})
	}
}

// full sets every value that is not a boolean to something else than the default.
var full = map[string]any{
	"image": map[string]any{"repository": "example.org/sockmap-cni", "tag": "v1",
		"digest": "sha256:" + strings.Repeat("a", 64), "pullPolicy": "Always"},
	"imagePullSecrets": []any{map[string]any{"name": "secret"}},
	"nameOverride":     "sm", "fullnameOverride": "sockmap",
	"cni": map[string]any{
		"binDir": "/b", "confDir": "/c", "confName": "10-x.conflist", "dropIn": true,
		"acceptHazards": []any{"splice", "fionread-tcp"},
		"config": map[string]any{
			"peers": "namespace", "maxSockets": 1048576, "maxBacklogBytes": 1073741824, "maxBacklogMessages": 64,
			"natRefreshSeconds": 0, "coexist": "share", "conntrackHelpers": "ignore",
			"ports": map[string]any{"include": []any{"80", "8000-8999"}}, "guards": []any{"options"},
			"bpffsPath": "/sys/fs/bpf/other",
		},
	},
	"agent": map[string]any{"adopt": false, "liveAnnotations": true, "reapInterval": "1m30s",
		"logFormat": "text", "readyMeans": "accelerating", "uninstallOnExit": true, "extraArgs": []any{"--x=y"}},
	"host": map[string]any{"mountBpffs": true, "cgroup": "/sys/fs/cgroup/unified", "netns": "/run/n",
		"cniCache": "/var/lib/x", "criSocket": "/run/crio/crio.sock", "mountPropagation": "None",
		"findByProcess": true},
	"metrics": map[string]any{"address": "127.0.0.1", "port": 9999,
		"podMonitor": map[string]any{"enabled": true, "labels": map[string]any{"a": "b"}},
		"rules":      map[string]any{"enabled": true, "labels": map[string]any{"a": "b"}},
		"dashboard":  map[string]any{"enabled": true}},
	"serviceAccount": map[string]any{"name": "account", "annotations": map[string]any{"a": "b"}},
	"resourceQuota":  map[string]any{"enabled": true}, "priorityClassName": "p",
	"podLabels": map[string]any{"l": "1"}, "podAnnotations": map[string]any{"a": "2"},
	"nodeSelector": map[string]any{"n": "3"},
	"tolerations":  []any{}, "maxUnavailable": 1, "terminationGracePeriodSeconds": 90,
	"securityContext": map[string]any{"appArmorProfile": nil, "seLinuxOptions": map[string]any{"type": "spc_t"},
		"extraCapabilities": []any{"DAC_OVERRIDE"}},
	"resources": map[string]any{"limits": map[string]any{"memory": "1Gi", "cpu": 2}},
}

func TestChartIsValidWithAllValuesSet(t *testing.T) {
	o := render(t, load(t), "", full)
	admissible(t, o)
	for _, kind := range []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ResourceQuota",
		"ConfigMap", "PodMonitor", "PrometheusRule", "DaemonSet"} {
		if o.byKind[kind] == nil {
			t.Errorf("no %s", kind)
		}
	}
	wantArgs(t, o.agent(t).Args,
		"agent", "--plugin=/usr/local/bin/sockmap", "--cni-bin-dir=/b", "--cni-conf-dir=/c",
		"--cni-conf-name=10-x.conflist", "--drop-in",
		"--listen=[127.0.0.1]:9999",
		`--config={"bpffsPath":"/sys/fs/bpf/other","coexist":"share","conntrackHelpers":"ignore","guards":["options"],`+
			`"maxBacklogBytes":1073741824,"maxBacklogMessages":64,"maxSockets":1048576,"natRefreshSeconds":0,"peers":"namespace","ports":{"include":["80","8000-8999"]}}`,
		"--accept-hazards=splice,fionread-tcp", "--reap-interval=1m30s", "--log-format=text",
		"--cri=/run/crio/crio.sock", "--ready-means=accelerating", "--uninstall-on-exit",
		"--cni-cache-dir=/var/lib/x", "--x=y")
	wantArgs(t, o.daemonSet(t).Spec.Template.Spec.InitContainers[0].Args,
		"load", "--bpffs-path=/sys/fs/bpf/other", "--max-sockets=1048576", "--max-backlog-bytes=1073741824",
		"--max-backlog-messages=64",
		"--nat-refresh-seconds=0", "--coexist=share", "--conntrack-helpers=ignore", "--guards=options")
}

func TestDefaultCommand(t *testing.T) {
	wantArgs(t, render(t, load(t), "", nil).agent(t).Args,
		"agent", "--plugin=/usr/local/bin/sockmap", "--cni-bin-dir=/opt/cni/bin", "--cni-conf-dir=/etc/cni/net.d",
		"--listen=[$(HOST_IP)]:9469", "--reap-interval=1m", "--log-format=json",
		"--cri=/run/containerd/containerd.sock", "--adopt")
}

// Without agent.liveAnnotations there is neither a right in the cluster nor a token.
func TestOnlyLiveAnnotationsNeedRightsInTheCluster(t *testing.T) {
	for _, on := range []bool{false, true} {
		o := render(t, load(t), "", nested("agent.liveAnnotations", on))
		token := slices.ContainsFunc(o.daemonSet(t).Spec.Template.Spec.Volumes,
			func(v corev1.Volume) bool { return v.Projected != nil })
		if rights := o.byKind["ClusterRole"] != nil || o.byKind["ClusterRoleBinding"] != nil; rights != on ||
			token != on {
			t.Errorf("liveAnnotations %v: rights %v, token %v", on, rights, token)
		}
	}
}

// Without access to the CRI socket, the pod has neither its mount nor an agent that looks for one.
func TestChartWithoutCRISocketDoesNotAskTheRuntime(t *testing.T) {
	o := render(t, load(t), "", nested("host.criSocket", ""))
	if !slices.Contains(o.agent(t).Args, "--cri=none") {
		t.Errorf("arguments %q", o.agent(t).Args)
	}
	for _, v := range o.daemonSet(t).Spec.Template.Spec.Volumes {
		if v.Name == "cri" {
			t.Errorf("volume %+v", v)
		}
	}
}

func TestIPv6Address(t *testing.T) {
	a := render(t, load(t), "", nested("metrics.address", "::1")).agent(t)
	if !slices.Contains(a.Args, "--listen=[::1]:9469") || a.LivenessProbe.HTTPGet.Host != "::1" {
		t.Errorf("arguments %q, probe of %q", a.Args, a.LivenessProbe.HTTPGet.Host)
	}
}

// The agent only listens on the node's own address, unless values change it.
func TestTheServerListensAtTheNodesAddress(t *testing.T) {
	for _, c := range []struct {
		address string
		set     bool   // the variable
		probe   string // the address that the kubelet asks; empty: the pod's, which is the node's
	}{{"", true, ""}, {"127.0.0.1", false, "127.0.0.1"}, {"0.0.0.0", false, ""}, {"::", false, ""}} {
		a := render(t, load(t), "", nested("metrics.address", c.address)).agent(t)
		i := slices.IndexFunc(a.Env, func(e corev1.EnvVar) bool { return e.Name == "HOST_IP" })
		if set := i >= 0 && a.Env[i].ValueFrom.FieldRef.FieldPath == "status.hostIP"; set != c.set {
			t.Errorf("address %q: HOST_IP is set: %v", c.address, set)
		}
		if host := a.ReadinessProbe.HTTPGet.Host; host != c.probe {
			t.Errorf("address %q: the probe asks %q", c.address, host)
		}
	}
}

func TestValuesOfSELinuxCombineWithEveryPlatform(t *testing.T) {
	c := load(t)
	selinux, err := c.Platform("selinux")
	if err != nil {
		t.Fatal(err)
	}
	for _, platform := range platforms(t, c) {
		o := render(t, c, platform, selinux)
		admissible(t, o)
		if options := o.agent(t).SecurityContext.SELinuxOptions; options == nil || options.Type != "spc_t" {
			t.Errorf("platform %q: %+v", platform, options)
		}
	}
}

func wantArgs(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("arguments\n %q\nwant\n %q", got, want)
	}
}

func TestHelmLint(t *testing.T) {
	for _, m := range lint.RunAll(dir, nil, "ns").Messages {
		// Its only complaint is a missing icon.
		if !strings.Contains(m.Err.Error(), "icon is recommended") {
			t.Errorf("%s: %v", m.Path, m.Err)
		}
	}
}

func TestNotesNameTheCommandsOfUninstall(t *testing.T) {
	c := load(t)
	for _, hook := range []bool{false, true} {
		for _, on := range []bool{false, true} {
			values := nested("agent.uninstallOnExit", on)
			merge(values, nested("uninstallHook.enabled", hook))
			_, told, err := c.Render("r", "ns", values)
			if err != nil {
				t.Fatal(err)
			}
			twice := strings.Contains(told, "--set agent.uninstallOnExit=true")
			if !strings.Contains(told, "helm -n ns uninstall r") || twice == (on || hook) {
				t.Errorf("uninstallOnExit %v, uninstallHook %v:\n%s", on, hook, told)
			}
		}
	}
}
