// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/explain"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/golden"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

func (n *testNode) explain(t testing.TB, args ...string) *explainView {
	t.Helper()
	v := &explainView{}
	decode(t, n.ok(t, append([]string{"explain", "-o", "json"}, args...)...), v)
	return v
}

// podNode has a pod with one connection over its loopback.
func podNode(t *testing.T) (*testNode, pair) {
	t.Helper()
	n, g, ns := newLoadedNode(t), newGroup(t), netnstest.New(t)
	n.add(t, endpoint.Sandbox{ContainerID: "c1", PodNamespace: "shop", PodName: "web-0"}, ns, g)
	return n, connect(t, g, ns, 1)[0]
}

var (
	ephemeral = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	// What guards ask depends on which of them this kernel takes.
	guarded  = regexp.MustCompile(`(?m)^(.) (blocking|oob|waitall|discard|learning) .*$`)
	loadedAt = regexp.MustCompile(`by version \S+, \S+ \S+`)
)

func steadyExplanation(screen string) string {
	seen := map[string]string{}
	screen = ephemeral.ReplaceAllStringFunc(screen, func(s string) string {
		if seen[s] == "" {
			seen[s] = fmt.Sprintf("127.0.0.1:PORT%d", len(seen)+1)
		}
		return seen[s]
	})
	screen = guarded.ReplaceAllString(screen, "GUARD $2")
	return steady(loadedAt.ReplaceAllString(screen, "by version VERSION, TIME"))
}

func TestALiveFlowIsExplained(t *testing.T) {
	n, p := podNode(t)
	ends := []string{p.client.LocalAddr().String(), p.server.LocalAddr().String()}
	if v := n.explain(t, ends...); v.Matches != 1 || v.Directions[0].Outcome != explain.Open ||
		len(v.Directions) != 2 {
		t.Errorf("nothing was sent yet: %+v", v)
	}
	p.send(t, 2, 100)
	if v := n.explain(t, ends...); v.Directions[0].Outcome != explain.Redirected || v.Directions[0].Next != "" {
		t.Errorf("it was redirected: %+v", v)
	}
	n.ok(t, "disable")
	v := n.explain(t, "shop/web-0", fmt.Sprintf("shop/web-0:%s", strings.TrimPrefix(ends[1], "127.0.0.1:")))
	if d := v.Directions[0].Decider(); v.Directions[0].Outcome != explain.ByTCP || d == nil ||
		d.Name != "disabled" ||
		!strings.HasPrefix(d.Change, "sockmapctl enable; then a new connection") {
		t.Errorf("the switch decided: %+v", v)
	}
	golden.Check(t, filepath.Join("testdata", "explain-disabled.golden"),
		steadyExplanation(n.ok(t, "explain", ends[0], ends[1])))
	if v := n.explain(t, ends[1], ends[0]); v.Directions[0].Outcome != explain.ByTCP ||
		!strings.HasPrefix(v.Directions[0].Answer, "plain TCP, ") {
		t.Errorf("the other way: %+v", v)
	}
}

func TestASocketOfAProcessIsExplained(t *testing.T) {
	n, p := podNode(t)
	file, err := p.client.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	of := func(fd uintptr) []string {
		return []string{"--pid", fmt.Sprint(os.Getpid()), "--fd", fmt.Sprint(fd)}
	}
	p.send(t, 1, 10)
	v := n.explain(t, of(file.Fd())...)
	if v.Matches != 1 || v.Socket == nil || v.Socket.Local.String() != p.client.LocalAddr().String() ||
		v.Directions[0].Outcome != explain.Redirected {
		t.Errorf("%+v", v)
	}
	if out := n.ok(t, append([]string{"explain"}, of(file.Fd())...)...); !strings.Contains(out,
		"socket              ESTAB") {
		t.Errorf("no socket in\n%s", out)
	}

	// One that was made where nothing is attached.
	outside := connect(t, newGroup(t), &netnstest.NetNS{}, 1)[0]
	plain, err := outside.client.File()
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	v = n.explain(t, of(plain.Fd())...)
	if d := v.Directions[0].Decider(); v.Matches != 0 || v.Directions[0].Outcome != explain.ByTCP || d == nil ||
		d.Name != "registered" {
		t.Errorf("nobody has added it: %+v", v.Directions[0])
	}

	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if r := n.run(t, append([]string{"explain"}, of(null.Fd())...)...); r.code != exitError ||
		!strings.Contains(r.stderr, "not a TCP socket") {
		t.Errorf("%+v", r)
	}
}

func TestExplainPredictsConnectionsBetweenPods(t *testing.T) {
	n := newLoadedNode(t)
	add := func(name, namespace string, p datapath.Policy) {
		g, ns := newGroup(t), netnstest.New(t)
		sb := endpoint.Sandbox{
			ContainerID: name, PodNamespace: namespace, PodName: name, Network: "testnet", IfName: "eth0",
			NetNSPath: ns.Path,
		}
		p.Namespace = namespace
		node := &endpoint.Node{Dir: n.dir, Settings: defaultSettings()}
		if _, err := node.Add(t.Context(), sb, endpoint.Want{CgroupPath: g.path, Policy: p}); err != nil {
			t.Fatal(err)
		}
	}
	add("web-0", "shop", datapath.Policy{})
	add("db-0", "shop", datapath.Policy{Peers: datapath.PeersNamespace,
		Exclude: []datapath.PortRange{{First: 22, Last: 22}}})
	add("spy-0", "evil", datapath.Policy{})
	node := &endpoint.Node{Dir: n.dir}
	declined := endpoint.Sandbox{
		Network: "testnet", ContainerID: "old", IfName: "eth0", NetNSPath: netnstest.New(t).Path,
		PodNamespace: "shop", PodName: "old-0",
	}
	if err := node.OptOut(t.Context(), declined, "annotation sockmap-cni/accelerate is false"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ source, destination, decider string }{
		{"shop/web-0", "shop/db-0:5432", ""},
		{"shop/web-0", "shop/db-0:22", "denied"},
		{"evil/spy-0", "shop/db-0:5432", "denied"},
		{"shop/web-0", "shop/old-0:80", "registered"},
		{"shop/web-0", "127.0.0.1:80", ""},
		{"shop/web-0", "192.0.2.1:80", ""},
	} {
		v := n.explain(t, tt.source, tt.destination)
		d := v.Directions[0].Decider()
		if v.Matches != 0 || (d == nil) != (tt.decider == "") || d != nil && d.Name != tt.decider {
			t.Errorf("%s to %s: %+v, want %q", tt.source, tt.destination, d, tt.decider)
		}
	}
	golden.Check(t, filepath.Join("testdata", "explain-denied.golden"),
		steadyExplanation(n.ok(t, "explain", "evil/spy-0", "shop/db-0:5432")))
	r := n.run(t, "explain", "shop/nobody-0", "shop/db-0")
	if r.code != exitError || !strings.Contains(r.stderr,
		"no pod shop/nobody-0 is recorded on this node (see: sockmapctl attachments)") {
		t.Errorf("%+v", r)
	}
}

func TestExplanationsFitTheTerminal(t *testing.T) {
	n, p := podNode(t)
	n.width = 80
	for line := range strings.Lines(n.ok(t, "explain", p.client.LocalAddr().String(),
		p.server.LocalAddr().String())) {
		if got := len([]rune(strings.TrimSuffix(line, "\n"))); got > 80 {
			t.Errorf("%d columns: %q", got, line)
		}
	}
}
