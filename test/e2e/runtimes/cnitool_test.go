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

// cnitool runs the program and returns its output. env is added to the variables with its paths.
func (w *world) cnitool(prefix, env []string, args ...string) ([]byte, error) {
	w.Helper()
	all := append(slices.Clone(prefix), program(w.T, "cnitool"))
	cmd := w.node.Command(w.bounded(), all[0], append(all[1:], args...)...)
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
	client, server, third := w.pod(lab.PodSpec{Name: "client"}), w.pod(lab.PodSpec{Name: "server"}),
		w.pod(lab.PodSpec{Name: "third"})
	prefix := w.confine("")
	call := func(env []string, verb string, args ...string) []byte {
		t.Helper()
		out, err := w.cnitool(prefix, env, append([]string{verb, w.network()}, args...)...)
		if err != nil {
			t.Fatalf("cnitool %s: %v: %s", verb, err, out)
		}
		return out
	}
	// The cgroup of one pod comes from a capability; the other's must be found by the pod's UID.
	told := strings.TrimPrefix(client.CgroupPath(), cgroupMount(t))
	capability, err := json.Marshal(map[string]string{"cgroupPath": told})
	if err != nil {
		t.Fatal(err)
	}
	byCapability := []string{"CAP_ARGS=" + string(capability)}
	byUID := []string{"CNI_ARGS=IgnoreUnknown=1;K8S_POD_UID=" + server.Spec().UID}
	call(nil, "status", client.NetNS()) // it requires one, for all verbs
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
	size := w.talk(client, server, firstIP(t, out))
	w.wantRedirected(size, a.NetNSCookie, b.NetNSCookie)
	w.note("CHECK passes")

	// gc has no list of valid attachments. libcni calls DEL for all attachments in its cache, here one of
	// three.
	if out, err := w.node.Output(w.bounded(), prefix[0],
		append(prefix[1:], "rm", "-r", "/var/lib/cni/results")...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	call(nil, "add", third.NetNS())
	idC := w.last("ADD").ContainerID
	before := len(w.calls())
	call(nil, "gc", third.NetNS())
	if calls := w.calls()[before:]; len(calls) != 2 || calls[0].Command != "DEL" ||
		calls[0].ContainerID != idC ||
		calls[1].Command != "GC" || calls[1].Conf.Valid != nil {
		t.Errorf("gc has called %+v, want a DEL for %s and a GC without a list", calls, idC)
	}
	w.wantNoRecord(idC)
	size += w.talk(client, server, firstIP(t, out))
	w.wantRedirected(size, a.NetNSCookie, b.NetNSCookie)
	w.note("`gc` calls DEL for what is cached, and the GC, without a list, leaves alone what lives")

	call(byCapability, "del", client.NetNS())
	call(byUID, "del", server.NetNS())
	w.wantNoRecord(idA)
	w.wantNoRecord(idB)
	w.wantLinks(0)
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
