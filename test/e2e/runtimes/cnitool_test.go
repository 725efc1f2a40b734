// SPDX-License-Identifier: Apache-2.0

package runtimes

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// cnitool runs the program and returns its output. env comes on top of what says where its things are.
func (w *world) cnitool(prefix, env []string, args ...string) ([]byte, error) {
	w.Helper()
	all := append(slices.Clone(prefix), program(w.T, "cnitool"))
	cmd := w.node.Command(w.Context(), all[0], append(all[1:], args...)...)
	cmd.Env = append(append(os.Environ(), "NETCONFPATH="+w.conf, "CNI_PATH="+w.bin), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, logger{w.T}
	if err := w.node.Start(cmd); err != nil {
		w.Fatal(err)
	}
	err := cmd.Wait()
	return out.Bytes(), err
}

func TestCnitool(t *testing.T) {
	w := newWorld(t, "cnitool", "cnitool", "1.1.0")
	w.row.Version = "cnitool " + version(t, "cnitool", "github.com/containernetworking/cni")
	client, server := w.pod(lab.PodSpec{Name: "client"}), w.pod(lab.PodSpec{Name: "server"})
	prefix := w.confine("")
	call := func(env []string, verb string, args ...string) []byte {
		t.Helper()
		out, err := w.cnitool(prefix, env, append([]string{verb, w.network()}, args...)...)
		if err != nil {
			t.Fatalf("cnitool %s: %v: %s", verb, err, out)
		}
		return out
	}
	// One pod's cgroup is told by a capability, the other's has to be found by the pod's UID.
	told := strings.TrimPrefix(client.CgroupPath(), cgroupMount(t))
	capability, err := json.Marshal(map[string]string{"cgroupPath": told})
	if err != nil {
		t.Fatal(err)
	}
	byCapability := []string{"CAP_ARGS=" + string(capability)}
	byUID := []string{"CNI_ARGS=IgnoreUnknown=1;K8S_POD_UID=" + server.Spec().UID}
	call(nil, "status", client.NetNS()) // it insists on one, for all verbs
	call(byCapability, "add", client.NetNS())
	w.wantCgroupPath(&told)
	idA := w.last("ADD").ContainerID
	out := call(byUID, "add", server.NetNS())
	w.wantCgroupPath(nil)
	idB := w.last("ADD").ContainerID
	a := w.wantCgroup(idA, client.CgroupPath(), "runtimeConfig.cgroupPath")
	b := w.wantCgroup(idB, server.CgroupPath(), "K8S_POD_UID")
	w.row.Cgroup = "runtimeConfig.cgroupPath, from `CAP_ARGS`; or K8S_POD_UID, from `CNI_ARGS`"
	call(byCapability, "check", client.NetNS())
	call(byUID, "check", server.NetNS())
	w.wantRedirected(w.talk(client, server, firstIP(t, out)), a.NetNSCookie, b.NetNSCookie)

	call(byCapability, "del", client.NetNS())
	w.wantNoRecord(idA)
	call(nil, "gc", client.NetNS())
	if del := w.last("DEL"); del.ContainerID != idB {
		t.Errorf("gc has called DEL last for %s, want %s", del.ContainerID, idB)
	}
	if gc := w.last("GC"); gc.Conf.Valid != nil {
		t.Errorf("GC was told %+v, want no list", *gc.Conf.Valid)
	}
	w.wantNoRecord(idB)
	w.wantLinks(0)
	w.note("CHECK passes")
	w.note("`gc` has no list of what is valid and first calls DEL for all that is cached")
}

// firstIP is the first address of a CNI result.
func firstIP(t *testing.T, result []byte) netip.Addr {
	t.Helper()
	var r struct {
		IPs []struct{ Address string }
	}
	if err := json.Unmarshal(result, &r); err != nil || len(r.IPs) == 0 {
		t.Fatalf("result %q: %v", result, err)
	}
	p, err := netip.ParsePrefix(r.IPs[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	return p.Addr()
}
