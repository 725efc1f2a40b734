// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/adopt"
	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/pods"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// A container that CRI does not know (from podman or nerdctl, so libcni's cache has it) on a node with a CRI
// socket.
func TestContainersThatCRIDoesNotKnowKeepTheirRecord(t *testing.T) {
	o := newOlder(t, nil)
	p := o.pod(lab.PodSpec{Namespace: "blue"})
	// The reply of pods.CRI.Runs for an id that it does not know (codes.NotFound).
	o.Runs = func(context.Context, string) (bool, error) { return false, nil }
	o.setKeys(map[string]any{"peers": "namespace"})
	changes, err := o.Follow(t.Context(), every)
	t.Logf("changes %+v, err %v", changes, err)
	records, err := o.endpointNode().Attachments(t.Context())
	if err != nil || len(records) != 1 {
		t.Errorf("records of a container that runs, %s: %+v, %v", p, records, err)
	}
	for range 3 {
		stood, err := o.Adopt(t.Context(), every)
		t.Logf("adopt: %+v %v", stood, err)
	}
}

// The annotation of a pod with hostNetwork is removed.
func TestAHostPodThatOptsOutLeaves(t *testing.T) {
	for _, annotations := range []map[string]string{{cniconf.AnnotationAccelerate: "false"}, {}} {
		h := newHosts(t, nil)
		ingress := h.host(lab.PodSpec{Name: "ingress", Annotations: takesPart})
		web := h.pod(lab.PodSpec{})
		h.adoptOnHost()
		l := h.toHost(&web.Place, ingress, 80)
		l.follows(true, time.Now())
		h.known[0].Annotations = annotations
		err := h.node.Do(func() error {
			changes, err := h.Follow(h.Context(), every)
			t.Logf("changes %+v, %v", changes, err)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		fixture.Elapse(1500*time.Millisecond, "a second, by which the change to TCP is done")
		if l.redirects() {
			t.Errorf("annotations %v: the host pod is redirected still", annotations)
		}
		if h.toHost(&web.Place, ingress, 81).redirects() {
			t.Errorf("annotations %v: a new connection of the host pod is redirected", annotations)
		}
		h.adoptOnHost()
	}
}

// An Add that fails while a host pod follows its configuration must keep the result of an earlier one, as for
// other pods.
func TestFailedFollowKeepsTheEarlierResult(t *testing.T) {
	h := newHosts(t, nil)
	ingress := h.host(lab.PodSpec{Name: "ingress", Annotations: takesPart})
	web := h.pod(lab.PodSpec{})
	h.adoptOnHost()
	l := h.toHost(&web.Place, ingress, 80)
	l.follows(true, time.Now())
	before := h.recordsOf(ingress, web)
	h.setKeys(map[string]any{"ports": map[string]any{"exclude": []string{"5000"}}})
	of := h.Node
	h.Node = func(c *cniconf.Conf) *endpoint.Node {
		n := of(c)
		n.Step = func(name string) error {
			if name == "record" {
				n.Step = nil
				return errors.New("a passing error")
			}
			return nil
		}
		return n
	}
	err := h.node.Do(func() error {
		changes, err := h.Follow(h.Context(), every)
		t.Logf("changes %+v, %v", changes, err)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Node = of
	for i, r := range h.recordsOf(ingress, web) {
		t.Logf("before accelerated %v; after %v declined %q cookie %x cgroup %d link %v", before[i].Accelerated(),
			r.Accelerated(), r.Declined, r.NetNSCookie, r.CgroupID, r.LinkAlive)
		if !r.Accelerated() {
			t.Errorf("pod %s has lost acceleration: %q", r.PodName, r.Declined)
		}
	}
	// And it is accelerated again without an action of the operator.
	_ = h.node.Do(func() error {
		changes, err := h.Follow(h.Context(), every)
		t.Logf("once more: changes %+v, %v", changes, err)
		return nil
	})
	for _, r := range h.recordsOf(ingress, web) {
		if !r.Accelerated() {
			t.Errorf("pod %s has lost acceleration for good: %q", r.PodName, r.Declined)
		}
	}
}

// An opt-out that cannot be stored is not reported as done repeatedly.
func TestFailedOptOutIsNotReportedAsDone(t *testing.T) {
	o := newOlder(t, nil)
	a, b := o.pod(lab.PodSpec{}), o.pod(lab.PodSpec{})
	l := o.live(a, b, 80)
	l.follows(true, time.Now())
	find := o.Find
	o.Find = func(ctx context.Context) ([]pods.Pod, error) {
		all, err := find(ctx)
		for i := range all {
			all[i].NetNS = "/run/netns/not-visible-here"
		}
		return all, err
	}
	o.setKeys(map[string]any{"enabled": false})
	for range 3 {
		changes, err := o.Follow(t.Context(), every)
		if len(changes) > 0 && err == nil {
			t.Errorf("reported as done: %+v", changes)
		}
	}
	if l.redirects() {
		t.Log("it is redirected still")
	}
}

// A pod that cannot be adopted is reported once.
func TestFailedAdoptionIsReportedOnce(t *testing.T) {
	o := newOlder(t, map[string]any{"required": true})
	p := o.oldPod(nil)
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	of := o.Node
	o.Node = func(c *cniconf.Conf) *endpoint.Node {
		n := of(c)
		n.Step = func(name string) error {
			if name == "link" {
				return datapath.ErrTooManyPrograms
			}
			return nil
		}
		return n
	}
	for range 5 {
		_, err := o.Adopt(t.Context(), every)
		_ = err
	}
	if n := strings.Count(log.String(), "level=WARN"); n > 1 {
		t.Errorf("%d warnings in 5 looks (of 5 s) for one pod %s\n%s", n, p, log.String())
	}
}

// The attachment of a host pod whose cgroup is unknown is removed at some time.
func TestADeclinedHostPodLeavesNoRecordBehind(t *testing.T) {
	h := newHosts(t, nil)
	web := h.pod(lab.PodSpec{})
	_ = web
	ingress := h.host(lab.PodSpec{Name: "ingress", Annotations: takesPart})
	h.known[0].Cgroup, h.known[0].UID = "", ""
	stood := h.adoptOnHost()
	t.Logf("%+v", stood[ingress.ContainerID()])
	h.known = nil
	if err := ingress.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := h.endpointNode().Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	records, err := h.endpointNode().Attachments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.ContainerID == ingress.ContainerID() {
			t.Errorf("after the pod there is %s %q cgroup %d container cgroup %d",
				r.Network, r.Declined, r.CgroupID, r.ContainerCgroupID)
		}
	}
}

// A new sandbox of the same pod with hostNetwork: the attachment of the old one keeps nothing.
func TestNewSandboxOfAHostPodUsesItsOwnAnnotations(t *testing.T) {
	h := newHosts(t, map[string]any{"peers": "pod"})
	ingress := h.host(lab.PodSpec{Name: "ingress", Annotations: takesPart})
	web := h.pod(lab.PodSpec{})
	h.adoptOnHost()
	// The runtime makes the sandbox again, in the same cgroup of the pod, and the entry has changed
	// meanwhile.
	h.known[0].ID = "anew0123456789"
	h.setKeys(map[string]any{"peers": "node"})
	err := h.node.Do(func() error {
		if _, err := h.Adopt(h.Context(), every); err != nil {
			return err
		}
		_, err := h.Follow(h.Context(), every)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.endpointNode().Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	records, _ := h.endpointNode().Attachments(t.Context())
	for _, r := range records {
		if r.HostNetNSCookie != 0 {
			t.Logf("record %s peers %v dead %q", r.ContainerID, r.Policy.Peers, r.Dead)
		}
	}
	if !h.toHost(&web.Place, ingress, 82).redirects() {
		t.Error("the record of the sandbox that is gone still narrows the pod")
	}
}

var _ = adopt.Accelerated

// A hazard is not accepted any more: a host pod keeps its link as others do, so that the shares of its live
// connections are released when they end. It is accelerated again when the hazard is accepted.
func TestOpenHazardDeclinesAHostPodLikeOthers(t *testing.T) {
	h := newHosts(t, nil)
	ingress := h.host(lab.PodSpec{Name: "ingress", Annotations: takesPart})
	web := h.pod(lab.PodSpec{Name: "web"})
	h.adoptOnHost()
	l := h.toHost(&web.Place, ingress, 80)
	l.follows(true, time.Now())
	if err := h.datapath().SetProbed("test", "test", 1, 0); err != nil { // splice
		t.Fatal(err)
	}
	h.setKeys(map[string]any{"acceptHazards": []string{}})
	err := h.node.Do(func() error {
		changes, err := h.Follow(h.Context(), every)
		t.Logf("changes %+v, %v", changes, err)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range h.recordsOf(ingress, web) {
		t.Logf("%s: declined %q reason %s cookie %x cgroup %d link %v", r.PodName, r.Declined, r.Reason,
			r.NetNSCookie, r.CgroupID, r.LinkAlive)
		if r.CgroupID == 0 || !r.LinkAlive || r.NetNSCookie == 0 {
			t.Errorf("pod %s has lost its link or endpoint under live connections", r.PodName)
		}
	}
}

// A change that affects only a policy does not move a pod to another cgroup, or to the root cgroup (where
// each socket of the node runs the program), because its cgroup cannot be found from here (an agent without
// hostPID, a runtime that names no cgroup).
func TestFollowKeepsTheExistingLink(t *testing.T) {
	o := newOlder(t, nil)
	a := o.pod(lab.PodSpec{})
	find := o.Find
	o.Find = func(ctx context.Context) ([]pods.Pod, error) {
		all, err := find(ctx)
		for i := range all {
			all[i].UID, all[i].Cgroup = "", ""
		}
		return all, err
	}
	before, _ := o.endpointNode().Attachments(t.Context())
	o.setKeys(map[string]any{"peers": "namespace"})
	if _, err := o.Follow(t.Context(), every); err != nil {
		t.Fatal(err)
	}
	after, err := o.endpointNode().Attachments(t.Context())
	if err != nil || len(after) != 1 || after[0].CgroupID != before[0].CgroupID {
		t.Errorf("pod %s: was at %s (%s), is at %s (%s)", a, before[0].CgroupPath, before[0].CgroupSource,
			after[0].CgroupPath, after[0].CgroupSource)
	}
}
