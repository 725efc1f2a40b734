// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

func TestPodCgroupMayBeAnywhere(t *testing.T) {
	n, _ := newNode(t)
	slice := "lab-kubepods-" + n.ID() + ".slice"
	p := labtest.NewPod(t, n, lab.PodSpec{Cgroup: slice + "/pod1.slice"})
	if _, err := os.Stat(p.ContainerCgroup()); err != nil {
		t.Error(err)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(n.CgroupPath()), slice)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the slice is still there (%v)", err)
	}
}

// recorder is a plugin that records how it was called.
const recorder = `#!/bin/sh
exec 3>>"$RECORD_DIR/$CNI_COMMAND"
cat >&3
env | grep ^CNI_ARGS >&3
readlink /proc/self/ns/net >&3
cat /proc/self/cgroup >&3
echo "recorder: $CNI_COMMAND" >&2
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.9.9/24"}]}'
[ "$CNI_COMMAND" != CHECK ] || { echo '{"code": 7, "msg": "wrong"}'; exit 1; }
`

func TestPluginsGetTheInputThatContainerdGives(t *testing.T) {
	bin, record := t.TempDir(), t.TempDir()
	t.Setenv("RECORD_DIR", record)
	if err := os.WriteFile(filepath.Join(bin, "recorder"), []byte(recorder), 0o755); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	n := labtest.NewNode(t, lab.Options{BinDir: bin, Log: &log})
	conflist := []byte(`{"cniVersion": "1.1.0", "name": "r", "plugins": [{"type": "recorder", "capabilities":
		{"cgroupPath": true, "io.kubernetes.cri.pod-annotations": true, "portMappings": true}}]}`)
	p := labtest.NewPod(t, n, lab.PodSpec{
		Name: "web", Namespace: "shop", UID: "u-1", Annotations: map[string]string{"a": "b"},
		PortMappings: []lab.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}},
		Conflist:     conflist,
	})
	if p.IP4() != netip.MustParseAddr("10.9.9.9") {
		t.Errorf("addresses %v", p.IPs())
	}
	saw := func(command string, want ...string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(record, command))
		if err != nil {
			t.Error(err)
		}
		for _, w := range want {
			if !strings.Contains(string(b), w) {
				t.Errorf("%s got\n%s\nwithout %s", command, b, w)
			}
		}
	}
	saw("ADD",
		`"cgroupPath":"/`+n.ID()+`/kubepods/burstable/podu-1"`, `"io.kubernetes.cri.pod-annotations":{"a":"b"}`,
		`"hostPort":8080`, "K8S_POD_NAMESPACE=shop", "K8S_POD_NAME=web", "K8S_POD_UID=u-1", "IgnoreUnknown=1",
		"K8S_POD_INFRA_CONTAINER_ID="+p.ContainerID(), "/"+n.ID()+"/runtime")
	var told *types.Error
	if err := n.CHECK(t.Context(), conflist, p); !errors.As(err, &told) || told.Code != 7 {
		t.Errorf("CHECK() = %v, want code 7", err)
	}
	if err := n.STATUS(t.Context(), conflist); err != nil {
		t.Error(err)
	}
	saw("STATUS", `"name":"r"`)
	gc := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: p.ContainerID(), IfName: "eth0"}}}
	if err := n.GC(t.Context(), conflist, gc); err != nil {
		t.Error(err)
	}
	saw("GC", `"cni.dev/valid-attachments":[{"containerID":"`+p.ContainerID())
	if _, err := os.Stat(filepath.Join(record, "DEL")); err == nil {
		t.Error("DEL was called for a valid attachment")
	}
	edit := func(rt *libcni.RuntimeConf) { rt.NetNS = "" }
	if err := n.DEL(t.Context(), conflist, p, edit); err != nil {
		t.Error(err)
	}
	if err := p.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(record, "DEL")); err != nil ||
		strings.Count(string(b), "CNI_ARGS") != 1 {
		t.Errorf("DEL was not called once: %s, %v", b, err)
	}
	if !strings.Contains(log.String(), "recorder: ADD\n") {
		t.Errorf("log has %q", log.String())
	}
	if _, err := n.Plugin(t.Context(), "recorder", []string{"CNI_COMMAND=CHECK", "RECORD_DIR=" + record},
		nil); !errors.As(err, &told) {
		t.Errorf("Plugin(CHECK) = %v", err)
	}
}

func TestFailedADDLeavesNoPod(t *testing.T) {
	n, _ := newNode(t)
	conflist := labtest.Conflist(t, n, lab.Network{
		Base: []byte(reference), Subnets: dualStack, Extra: []map[string]any{{"type": "no-such-plugin"}},
	})
	if p, err := n.NewPod(t.Context(), lab.PodSpec{Conflist: conflist}); err == nil {
		t.Fatalf("pod %s was made with a plugin that does not exist", p)
	}
	left, err := filepath.Glob(filepath.Join(n.Dir(), "netns", "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("network namespaces %v, want the node's only", left)
	}
	if left, _ := filepath.Glob(filepath.Join(n.CgroupPath(), "kubepods", "burstable", "pod*")); len(left) != 0 {
		t.Errorf("cgroups %v", left)
	}
}
