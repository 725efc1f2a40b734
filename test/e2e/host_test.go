// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"golang.org/x/sys/unix"
)

// hosts is a node with pods that use its network. libcni's cache does not know them; only the runtime does.
type hosts struct {
	*older
	known []pods.Pod
}

func newHosts(t *testing.T, keys map[string]any) *hosts {
	t.Helper()
	h := &hosts{older: newOlder(t, keys)}
	cached := h.Find
	h.Find = func(ctx context.Context) ([]pods.Pod, error) {
		all, err := cached(ctx)
		return append(all, h.known...), err
	}
	return h
}

// host makes a pod with hostNetwork, as on the CRI socket.
func (h *hosts) host(spec lab.PodSpec) *lab.Pod {
	h.Helper()
	spec.HostNetwork = true
	p := h.pod(spec)
	annotations := spec.Annotations
	if annotations == nil {
		annotations = map[string]string{}
	}
	h.known = append(h.known, pods.Pod{
		ID: p.ContainerID(), Namespace: p.Spec().Namespace, Name: p.Spec().Name, UID: p.Spec().UID,
		Annotations: annotations, Cgroup: p.CgroupPath(), HostNetwork: true, From: pods.FromCRI,
	})
	return p
}

// adoptOnHost is Adopt by a process in the node's network namespace, as the agent is.
func (h *hosts) adoptOnHost() map[string]adopt.PodStatus {
	h.Helper()
	var stood map[string]adopt.PodStatus
	err := h.node.Do(func() error {
		stood = h.stand(h.Adopt(h.Context(), every))
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	return stood
}

var takesPart = map[string]string{cniconf.AnnotationAccelerate: "true"}

// nodeAddress is the node's own address, at a port.
func nodeAddress(port uint16) string {
	return net.JoinHostPort("192.0.2.1", strconv.Itoa(int(port)))
}

// toHost connects to a server of a pod with hostNetwork.
func (h *hosts) toHost(client *lab.Place, server *lab.Pod, port uint16) *live {
	h.Helper()
	l := listen(h.T, &server.Place, nodeAddress(port))
	c, s := connect(h.T, client, nodeAddress(port), l)
	return &live{h.world, h.datapath(), c, s}
}

func TestHostPodIsAcceleratedOnlyByAnnotation(t *testing.T) {
	h := newHosts(t, nil)
	ingress := h.host(lab.PodSpec{Name: "ingress", Annotations: takesPart})
	proxy := h.host(lab.PodSpec{Name: "proxy", Annotations: takesPart})
	plain := h.host(lab.PodSpec{Name: "plain"})
	web := h.pod(lab.PodSpec{Namespace: "web"})

	stood := h.adoptOnHost()
	h.want(stood, ingress, adopt.Accelerated, "", true)
	h.want(stood, proxy, adopt.Accelerated, "", true)
	h.want(stood, plain, adopt.LeftOut, adopt.ReasonHostNetwork, false)
	again := h.adoptOnHost()
	h.want(again, ingress, adopt.Accelerated, "", false)

	wants := func(name string, l *live, want bool) {
		t.Helper()
		if got := l.redirects(); got != want {
			t.Errorf("%s: redirected %v, want %v", name, got, want)
		}
	}
	wants("pod to ingress", h.toHost(&web.Place, ingress, 80), true)
	wants("ingress to pod", h.live(ingress, web, 8080), true)
	wants("ingress to proxy", h.toHost(&ingress.Place, proxy, 81), true)
	// The host's own processes, and the pod that has not asked for it, share the network namespace and are
	// not accelerated.
	wants("pod to the plain one", h.toHost(&web.Place, plain, 82), false)
	wants("the plain one to ingress", h.toHost(&plain.Place, ingress, 83), false)
	wants("a process of the host to ingress", h.toHost(&h.node.Place, ingress, 84), false)
	wants("the plain one to pod", h.live(plain, web, 8081), false)

	// Each is counted separately.
	shares, err := h.datapath().SocketShares()
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]int{}
	for _, r := range h.recordsOf(ingress, proxy) {
		if !datapath.IsHostKey(r.NetNSCookie) || r.CgroupID == 0 || r.NetNSCookie != datapath.HostKey(r.CgroupID) {
			t.Errorf("record %+v", r)
		}
		own[r.PodName] = shares[r.NetNSCookie]
	}
	if own["ingress"] != 3 || own["proxy"] != 1 {
		t.Errorf("sockets of each: %v, want 3 of ingress and 1 of proxy", own)
	}
}

// An upgrade gives each pod with hostNetwork a copy of the new program, under live connections.
func TestAnUpgradeKeepsPodsWithHostNetwork(t *testing.T) {
	h := newHosts(t, nil)
	ingress := h.host(lab.PodSpec{Name: "ingress", Annotations: takesPart})
	plain := h.host(lab.PodSpec{Name: "plain"})
	web := h.pod(lab.PodSpec{})
	h.adoptOnHost()
	old := h.toHost(&web.Place, ingress, 80)
	old.follows(true, time.Now())
	h.takeForOther()
	up, err := h.endpointNode().Upgrade(t.Context())
	if err != nil || !up.Done || up.Kind != endpoint.UpgradePrograms || up.Cgroups != 2 {
		t.Fatalf("upgrade %+v, %v", up, err)
	}
	if !old.redirects() {
		t.Error("a live connection is not redirected any more")
	}
	for name, tt := range map[string]struct {
		l    *live
		want bool
	}{
		"to ingress": {h.toHost(&web.Place, ingress, 81), true}, "from ingress": {h.live(ingress, web, 81), true},
		"to the plain one": {h.toHost(&web.Place, plain, 82), false},
	} {
		if got := tt.l.redirects(); got != tt.want {
			t.Errorf("%s: redirected %v", name, got)
		}
	}
}

// takeForOther makes the loaded programs look like those of another version.
func (w *world) takeForOther() {
	w.Helper()
	pin := filepath.Join(w.node.BPFFS(), fmt.Sprintf("v%d", datapath.ABI), "programs")
	if err := errors.Join(os.Remove(pin), os.Symlink("sha256:of another version", pin)); err != nil {
		w.Fatal(err)
	}
}

func (h *hosts) recordsOf(wanted ...*lab.Pod) (own []endpoint.Attachment) {
	h.Helper()
	records, err := h.endpointNode().Attachments(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	for _, r := range records {
		for _, p := range wanted {
			if r.ContainerID == p.ContainerID() {
				own = append(own, r)
			}
		}
	}
	if len(own) != len(wanted) {
		h.Fatalf("records %+v of %d pods", own, len(wanted))
	}
	return own
}

// Policies and switches apply to pods with hostNetwork as to others. A GC of the network ignores them, and
// they are removed with their cgroup.
func TestPoliciesHoldForPodsWithHostNetwork(t *testing.T) {
	h := newHosts(t, map[string]any{"peers": "namespace", "ports": map[string]any{"exclude": []string{"9000"}}})
	ingress := h.host(lab.PodSpec{Name: "ingress", Namespace: "blue", Annotations: takesPart})
	other := h.host(lab.PodSpec{Name: "other", Namespace: "green", Annotations: takesPart})
	blue, green := h.pod(lab.PodSpec{Namespace: "blue"}), h.pod(lab.PodSpec{Namespace: "green"})
	h.adoptOnHost()
	for _, tt := range []struct {
		name string
		l    *live
		want bool
	}{
		{"of one namespace", h.live(ingress, blue, 80), true},
		{"of two namespaces", h.live(ingress, green, 80), false},
		{"two with hostNetwork, of two namespaces", h.toHost(&other.Place, ingress, 81), false},
		{"at a port that is excluded", h.live(ingress, blue, 9000), false},
	} {
		if got := tt.l.redirects(); got != tt.want {
			t.Errorf("%s: redirected %v", tt.name, got)
		}
	}
	l := h.live(ingress, blue, 82)
	l.follows(true, time.Now())
	part := datapath.Switch{Kind: datapath.SwitchPod, Name: "blue/ingress"}
	l.follows(false, h.turn(true, part))
	l.follows(true, h.turn(false, part))

	if _, err := h.endpointNode().GC(t.Context(), h.conf().Name, &[]endpoint.ValidAttachment{}); err != nil {
		t.Fatal(err)
	}
	h.recordsOf(ingress, other)
	if err := unix.Access(ingress.CgroupPath(), unix.F_OK); err != nil {
		t.Fatal(err)
	}
	if err := ingress.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.endpointNode().Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	records, err := h.endpointNode().Attachments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.ContainerID == ingress.ContainerID() {
			t.Errorf("after its cgroup there is %+v", r)
		}
	}
}
