// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/e2e/runtimes/ask"
)

// Multus is configured instead of the conflist and delegates to it. It knows neither cgroupPath nor the
// annotations among the capabilities that the runtime passes, so its delegates get neither.
func TestMultus(t *testing.T) {
	w := newWorld(t, "multus", "Multus, below containerd", "1.0.0")
	w.row.Version = "multus-cni " + version(t, "multus", "gopkg.in/k8snetworkplumbingwg/multus-cni.v4") +
		", go-cni " + version(t, "runtime", "github.com/containerd/go-cni")
	if err := os.Symlink(program(t, "multus"), filepath.Join(w.bin, "multus")); err != nil {
		t.Fatal(err)
	}
	w.putMultusFirst()
	client, askClient := w.kubePod("client", uidA, systemdPod,
		map[string]string{"example.org/owner": "somebody"})
	server, askServer := w.kubePod("server", uidB, systemdPod, nil)
	containerd := w.start("containerd", w.setup(), w.confine("")...)
	containerd.do("add", askClient)
	if got := w.last("ADD").Conf.RuntimeConfig.Annotations; got != nil {
		t.Errorf("the delegate got the annotations %v", got)
	}
	ip := containerd.do("add", askServer)
	w.wantCgroupPath(nil)
	w.wantArg("K8S_POD_UID", true)
	a := w.wantCgroup(client.ContainerID(), client.CgroupPath(), "K8S_POD_UID")
	b := w.wantCgroup(server.ContainerID(), server.CgroupPath(), "K8S_POD_UID")
	w.wantRedirected(w.talk(client, server, ip), a.NetNSCookie, b.NetNSCookie)
	w.row.Cgroup = "K8S_POD_UID: neither the runtime's cgroupPath nor the annotations reach a delegate"
	for _, r := range []ask.Request{askClient, askServer} {
		containerd.do("del", r)
		w.wantNoRecord(r.ID)
	}
	w.wantLinks(0)
}

// putMultusFirst makes a configuration of Multus the first one, with the world's conflist as its delegate.
func (w *world) putMultusFirst() {
	w.Helper()
	delegate := json.RawMessage(w.conflist("1.0.0"))
	conf, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus",
		"capabilities": map[string]bool{"portMappings": true, "cgroupPath": true,
			"io.kubernetes.cri.pod-annotations": true},
		"binDir": w.bin, "confDir": w.conf, "cniDir": filepath.Join(w.node.Dir(), "multus"),
		"delegates": []any{delegate},
	})
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.conf, "00-multus.conf"), conf, 0o644); err != nil {
		w.Fatal(err)
	}
	remove(w.T, filepath.Join(w.conf, "10-sockmap.conflist"))
}
