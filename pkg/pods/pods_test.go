// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

func TestTheCgroupOfAPodIsAboveThatOfItsSandbox(t *testing.T) {
	for given, want := range map[string]string{
		"/kubepods/burstable/pod1/abc":                  "/kubepods/burstable/pod1",
		"kubepods-pod1.slice:cri-containerd:abc":        "kubepods-pod1.slice",
		"kubepods-burstable-pod1.slice:crio:0123456789": "kubepods-burstable-pod1.slice",
		"/abc": "", "abc": "", "": "",
	} {
		if got := parentOf(given); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}

func TestSandboxInfoOfRuntimesIsParsed(t *testing.T) {
	const containerd = `{"pid":42,"runtimeSpec":{"linux":{"cgroupsPath":"/kubepods/pod1/abc",
		"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/cni-1"}]}},"other":[1]}`
	const crio = `{"image":"x","pid":42,"runtimeSpec":{"linux":{"cgroupsPath":"kubepods-pod1.slice:crio:abc",
		"namespaces":[{"type":"network"}]}}}`
	for text, want := range map[string]Pod{
		containerd: {Cgroup: "/kubepods/pod1", NetNS: "/run/netns/cni-1"},
		crio:       {Cgroup: "kubepods-pod1.slice", NetNS: "/proc/42/ns/net"},
		"":         {},
	} {
		var got Pod
		if err := got.readInfo(text); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	host := Pod{HostNetwork: true}
	if err := host.readInfo(containerd); err != nil || host.NetNS != "" {
		t.Errorf("of a pod in the host's network namespace: %+v, %v", host, err)
	}
	if err := new(Pod).readInfo("[]"); err == nil {
		t.Error("what is no object is read")
	}
}

// cache is a directory as libcni leaves it.
func cache(t *testing.T, attachments ...map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "results"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, a := range attachments {
		a["kind"] = libcni.CNICacheV1
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		name := a["networkName"].(string) + "-" + a["containerId"].(string) + "-" + a["ifName"].(string)
		if err := os.WriteFile(filepath.Join(dir, "results", name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCachedAttachmentsOfOneSandboxAreOnePod(t *testing.T) {
	own := "/proc/self/ns/net" // any that is there
	dir := cache(t,
		map[string]any{
			"networkName": "net", "containerId": "abc", "ifName": "eth0", "netns": own,
			"cniArgs": [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "web"},
				{"K8S_POD_UID", "u"}},
			"capabilityArgs": map[string]any{
				"cgroupPath": "/kubepods/podu", "io.kubernetes.cri.pod-annotations": map[string]any{"a": "b", "n": 1},
			},
		},
		map[string]any{"networkName": "other", "containerId": "abc", "ifName": "net1", "netns": own},
		map[string]any{"networkName": "net", "containerId": "gone", "ifName": "eth0", "netns": "/nowhere"},
		map[string]any{"networkName": "net", "containerId": "unnamed", "ifName": "eth0"},
	)
	got, err := FromCacheDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []Pod{{
		ID: "abc", Namespace: "shop", Name: "web", UID: "u", Annotations: map[string]string{"a": "b"},
		Cgroup: "/kubepods/podu",
		NetNS:  own, From: "libcni's cache", Attachments: []Attachment{{"net", "eth0"}, {"other", "net1"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if none, err := FromCacheDir(t.TempDir()); err != nil || none != nil {
		t.Errorf("without a cache: %+v, %v", none, err)
	}
}

func TestFirstSourceTakesPrecedence(t *testing.T) {
	cri := Pod{ID: "abc", Name: "web", NetNS: "/run/netns/1", From: "CRI",
		Annotations: map[string]string{"a": "cri"}}
	cached := Pod{
		ID: "abc", Name: "other", UID: "u", NetNS: "/run/netns/2", Annotations: map[string]string{"a": "cache"},
		Attachments: []Attachment{{"net", "eth0"}},
	}
	got := merge([]Pod{cri}, []Pod{cached, {ID: "def"}})
	cri.UID, cri.Attachments = "u", cached.Attachments
	if diff := cmp.Diff([]Pod{{ID: "def"}, cri}, got); diff != "" {
		t.Error(diff)
	}
}
