// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// hazardousNode is one on whose kernel the probes have found these, unguarded.
func hazardousNode(t *testing.T, names ...string) *testNode {
	t.Helper()
	n := newTestNode(t)
	n.probe = func(func(*os.File) (io.Closer, error), ...string) (uint32, uint32, error) {
		return uint32(hazard.SetOf(names...)), 0, nil
	}
	n.ok(t, "load")
	return n
}

// entry writes a network configuration whose entry accepts hazards, and returns its directory.
func entry(t *testing.T, bpffsPath, accepted string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},
		{"type":"sockmap","bpffsPath":%q,"acceptHazards":%s}]}`, bpffsPath, accepted)
	if err := os.WriteFile(filepath.Join(dir, "10-n.conflist"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStatusFailsWhereNothingCanBeAccelerated(t *testing.T) {
	n := hazardousNode(t, "splice", "eagain")
	for _, c := range []struct {
		name, confDir string
		want          int
	}{
		{"no entry", t.TempDir(), exitHazards},
		{"accepts nothing", entry(t, n.dir, `[]`), exitHazards},
		{"accepts one of two", entry(t, n.dir, `["splice"]`), exitHazards},
		{"accepts both", entry(t, n.dir, `["splice","eagain"]`), exitOK},
		{"another state's entry accepts all", entry(t, "/sys/fs/bpf/another", `["all"]`), exitHazards},
	} {
		r := n.run(t, "status", "--cni-conf-dir", c.confDir)
		if r.code != c.want || r.stderr != "" {
			t.Errorf("%s: exit code %d, %q, want %d", c.name, r.code, r.stderr, c.want)
		}
		if said := strings.Contains(r.stdout, "\naccelerates NOTHING: hazards: "); said != (c.want != exitOK) {
			t.Errorf("%s: it says\n%s", c.name, r.stdout)
		}
	}

	var s statusView
	n.read(t, &s, "status")
	if s.Accelerating || len(s.Parts) != 3 || s.Parts[2].OK || s.Parts[2].Reason != "hazards" {
		t.Errorf("parts are %+v", s.Parts)
	}
}

// If a pod has accepted hazards for itself, or an operator for a cgroup, something is accelerated, so status
// does not fail.
func TestStatusCountsHazardsThatPodsAndCgroupsAccept(t *testing.T) {
	n := hazardousNode(t, "splice")
	node := &endpoint.Node{Dir: n.dir, Settings: defaultSettings(), Root: n.files}
	sb := endpoint.Sandbox{Network: "testnet", IfName: "eth0", ContainerID: "c1",
		NetNSPath: netnstest.New(t).Path}
	want := endpoint.Want{CgroupPath: newGroup(t).path, AcceptHazards: []string{"splice"}}
	if r := n.run(t, "status"); r.code != exitHazards {
		t.Errorf("before: exit code %d", r.code)
	}
	if _, err := node.Add(t.Context(), sb, want); err != nil {
		t.Fatal(err)
	}
	if r := n.run(t, "status"); r.code != exitOK {
		t.Errorf("with an accelerated container: exit code %d\n%s", r.code, r.stdout)
	}
	if err := node.Del(t.Context(), sb.Network, sb.ContainerID, sb.IfName); err != nil {
		t.Fatal(err)
	}
	n.ok(t, "attach", "--accept-hazards", "splice", "--cgroup", newGroup(t).path)
	if r := n.run(t, "status"); r.code != exitOK {
		t.Errorf("with a cgroup attached with sockmapctl attach: exit code %d\n%s", r.code, r.stdout)
	}
	n.ok(t, "disable")
	if r := n.run(t, "status"); r.code != exitHazards {
		t.Errorf("switched off: exit code %d", r.code)
	}
}

// One function decides what is accelerated, for all that report it.
func TestMetricsEndpointsAndStatusAgreeOnWhatIsAccelerated(t *testing.T) {
	n := busyNode(t) // with a container whose cgroup is gone
	counts := map[string]int{}
	var attachments []attachmentView
	n.read(t, &attachments, "attachments")
	for _, e := range attachments {
		counts[e.Reason]++
		if (e.Reason == "") != e.Accelerated || (e.Declined == "") != e.Accelerated {
			t.Errorf("accelerated %v because of %q (%s)", e.Accelerated, e.Reason, e.Declined)
		}
	}
	if diff := cmp.Diff(map[string]int{"": 1, "opted-out": 1, "link-gone": 1}, counts); diff != "" {
		t.Errorf("attachments (-want +got):\n%s", diff)
	}
	var s statusView
	n.read(t, &s, "status")
	if s.Node.Attachments.Accelerated != counts[""] || s.Node.Attachments.OptedOut != 1 ||
		s.Node.Attachments.Declined != 1 {
		t.Errorf("status has %+v", s.Node.Attachments)
	}
	var families []metricView
	n.read(t, &families, "metrics")
	exported := map[string]int{}
	for _, f := range families {
		for _, series := range f.Series {
			if f.Name == "sockmap_attachments" && series.Value != 0 {
				exported[series.Labels["reason"]] = int(series.Value)
			}
		}
	}
	if diff := cmp.Diff(counts, exported); diff != "" {
		t.Errorf("metrics (-attachments +metrics):\n%s", diff)
	}
}
