// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/version"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// vary matches what differs from run to run on a screen.
var vary = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`/tmp/\S*/sockmap\b`), "DIR"},
	{regexp.MustCompile(`\S*/sockmapctl-test-\d+`), "CGROUP"},
	{regexp.MustCompile(`\(id \d+\)`), "(id ID)"},
	{regexp.MustCompile(`\d+s ago`), "AGE ago"},
	{regexp.MustCompile(`(?m)^(others +).*`), "${1}WHOEVER-ELSE"},
	{regexp.MustCompile(`(?m)^(kernel +).*`), "${1}RELEASE"},
	// as the kernel lets it
	{regexp.MustCompile(`(splice|observe|blocking|options) (not active: |active at ).*`), "$1 RUNS-OR-NOT"},
}

func steady(screen string) string {
	for _, v := range vary {
		screen = v.from.ReplaceAllString(screen, v.to)
	}
	return strings.ReplaceAll(screen, version.String(), "VERSION")
}

// busyNode has one of everything: a pod with traffic, one that was declined, a cgroup attached with
// sockmapctl attach, and a container whose cgroup is gone.
func busyNode(t *testing.T) *testNode {
	t.Helper()
	n, g, ns := newLoadedNode(t), newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "c1", PodNamespace: "shop", PodName: "web-0"}, ns, g)
	node := &endpoint.Node{Dir: n.dir}
	declined := endpoint.Sandbox{
		Network: "testnet", ContainerID: "c2", IfName: "eth0", NetNSPath: netnstest.New(t).Path,
		PodNamespace: "shop", PodName: "old-0",
	}
	if err := node.OptOut(t.Context(), declined, "annotation sockmap-cni/accelerate is false"); err != nil {
		t.Fatal(err)
	}
	p := connect(t, g, ns, 1)[0]
	p.send(t, 3, 1000)
	toOutside(t, g, ns)
	n.ok(t, "attach", "--cgroup", newGroup(t).path)
	gone, lastNS := newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "c3", PodNamespace: "shop", PodName: "gone-0"}, lastNS, gone)
	gone.remove(t)
	n.ok(t, "disable")
	p.send(t, 1, 1000)
	eventually(t, "the socket with an outside peer has left", func() bool {
		return strings.Contains(n.told(t, "status"), "0 sockets of")
	})
	return n
}

func TestStatusHasEverythingOnOneScreen(t *testing.T) {
	n := busyNode(t)
	screen := n.told(t, "status")
	golden.Check(t, filepath.Join("testdata", "status.golden"), steady(screen))
	if lines := strings.Count(screen, "\n"); lines > 24 {
		t.Errorf("%d lines are more than one screen", lines)
	}
	n.width = 60
	for line := range strings.Lines(n.told(t, "status")) {
		if len([]rune(line)) > 61 && !strings.Contains(line, "/") {
			t.Errorf("too wide for 60 columns: %q", line)
		}
	}
}

func TestStatusInJSONIsComplete(t *testing.T) {
	var s statusView
	busyNode(t).read(t, &s, "status")
	want := statusView{
		Loaded: true, Version: version.String(), Checks: []checkView{}, Pods: podsView{Reasons: []whyView{}},
		Parts: []partView{
			{Name: "programs", OK: true},
			{Name: "switch", Reason: "disabled", Detail: endpoint.ErrDisabled.Error()},
			{Name: "hazards", OK: true},
		},
		Next: []string{
			"all flows are on TCP; switch on with: sockmapctl enable",
			"remove the leftovers of containers and cgroups that are gone with: sockmapctl gc",
		},
		Node: &nodeView{
			LoadedVersion: version.String(),
			Settings:      settingsView{65536, 8 << 20, 4096, 60, "yield", "avoid"},
			Hazards:       hazardsView{[]string{}, []string{}, []string{}},
			Switches:      []switchView{},
			Helpers:       helpersView{Ports: []string{}, Found: []helperView{}},
			Attachments: countsView{Accelerated: 1, OptedOut: 1, Declined: 1, Dead: 1, Reasons: []whyView{
				{"opted-out", "annotation sockmap-cni/accelerate is false", 1},
				{"link-gone", "its cgroup has no link any more", 1},
			}},
			Cgroups:    []cgroupView{{Attachments: 1}, {Alive: true, Attachments: 1}, {Alive: true, Manual: true}},
			Neighbours: []neighbourView{}, Coexist: coexistYield,
			Draining: []drainView{},
			Now: nowView{
				Left: 2, RedirectedBytes: 3000, RedirectedMessages: 3, TCPBytes: 1000,
			},
			Ever: everView{
				RedirectedBytes: 3000, RedirectedMessages: 3, TCPBytes: 1000,
				Results:   []resultView{{"joined", 1, 1}, {"remote", 1, 0}},
				Fallbacks: []live.Count{{Reason: "disabled", Count: 2}, {Reason: "no-peer", Count: 1}},
			},
		},
	}
	if since := time.Since(s.Node.LoadedAt); since < 0 || since > time.Minute {
		t.Errorf("loaded %v ago", since)
	}
	clearWhatVaries(&s)
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

// clearWhatVaries clears what differs from run to run or from machine to machine, and sorts the cgroups.
func clearWhatVaries(s *statusView) {
	s.Dir, s.Node.LoadedAt, s.Node.Kernel = "", time.Time{}, ""
	s.Node.Guards, s.Node.Others = nil, nil
	for i := range s.Node.Cgroups {
		s.Node.Cgroups[i].ID, s.Node.Cgroups[i].Path = 0, ""
	}
	slices.SortFunc(s.Node.Cgroups, func(a, b cgroupView) int { // they are sorted by path, which is random
		return strings.Compare(fmt.Sprint(a.Alive, a.Manual), fmt.Sprint(b.Alive, b.Manual))
	})
}

func TestStatusWhenNotLoadedChangesNothing(t *testing.T) {
	n := newTestNode(t)
	r := n.run(t, "status")
	if r.code != exitNotLoaded || r.stderr != "" {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
	for _, want := range []string{"not loaded", "privileges", "BTF", "cgroup2", "bpffs", "nothing is pinned",
		"sockmapctl load"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	if _, err := os.Stat(n.dir); !os.IsNotExist(err) {
		t.Errorf("status has made %s: %v", n.dir, err)
	}
}

func TestErrorOfForeignStateNamesUnloadForce(t *testing.T) {
	n := newTestNode(t)
	if err := os.MkdirAll(filepath.Join(n.dir, "v99"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"status"}, {"flows"}, {"attachments"}, {"metrics"}, {"load"}, {"unload"}, {"enable"}, {"disable"}, {"gc"},
		{"attach", "--cgroup", newGroup(t).path}, {"detach", "--id", "1"},
	} {
		r := n.run(t, args...)
		if r.code != exitForeign {
			t.Errorf("%s: exit code %d, want %d", args, r.code, exitForeign)
		}
		for _, want := range []string{`"v99"`, fmt.Sprintf(`"v%d"`, datapath.ABI), "sockmapctl unload --force"} {
			if !strings.Contains(r.stdout+r.stderr, want) {
				t.Errorf("%s: no %s in %s%s", args, want, r.stdout, r.stderr)
			}
		}
	}
	n.ok(t, "unload", "--force")
	n.ok(t, "load")
}
