// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"github.com/sockmap-cni/sockmap-cni/test/fixture/netnstest"
)

// Variables that make the test binary something else, for tests that need another process: sockmapctl itself,
// or a holder of connections.
const (
	asProgram = "SOCKMAPCTL_TEST_AS_PROGRAM"
	asClient  = "SOCKMAPCTL_TEST_AS_CLIENT"
)

func TestMain(m *testing.M) {
	probe.Main()
	bench.Main()
	if os.Getenv(asProgram) != "" {
		main()
	}
	if how := os.Getenv(asClient); how != "" {
		if err := beClient(how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	fixture.Main(m)
}

// newStateDir names a state directory on a bpffs of the test's own.
func newStateDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(fixture.BPFFS(t), "sockmap")
}

// testNode is a state directory, and commands that use it.
type testNode struct {
	dir   string
	width int
	probe datapath.Probe // nil: no hazard is known
	files string         // below which /proc and /sys are looked for conntrack helpers

	strays func() ([]datapath.Stray, error) // nil: nobody looks
}

func newTestNode(t testing.TB) *testNode {
	t.Helper()
	n := &testNode{dir: newStateDir(t), files: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(n.files, "sys/module/kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r := n.run(t, "unload", "--force"); r.code != exitOK {
			t.Errorf("unload: %s", r.stderr)
		}
	})
	return n
}

func newLoadedNode(t testing.TB) *testNode {
	t.Helper()
	n := newTestNode(t)
	n.ok(t, "load")
	return n
}

type result struct {
	code           int
	stdout, stderr string
}

// run executes a command line in this process.
func (n *testNode) run(t testing.TB, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := n.runTo(&stdout, &stderr, args...)
	return result{code, stdout.String(), stderr.String()}
}

func (n *testNode) runTo(stdout, stderr io.Writer, args ...string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h := thisHost()
	h.files = n.files
	// Other tests of this machine have flows and state of their own.
	h.strays, h.pinned = n.strays, nil
	return run(ctx, env{
		stdout: stdout, stderr: stderr, width: n.width, host: h, probe: n.probe,
		getenv: func(name string) string { return map[string]string{pathVariable: n.dir}[name] },
	}, args)
}

// ok runs a command that must succeed, and returns its standard output.
func (n *testNode) ok(t testing.TB, args ...string) string {
	t.Helper()
	r := n.run(t, args...)
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("sockmapctl %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// told is ok, and accepts the exit code that status has if the switch or hazards keep everything on TCP.
func (n *testNode) told(t testing.TB, args ...string) string {
	t.Helper()
	r := n.run(t, args...)
	if r.code != exitOK && r.code != exitHazards || r.stderr != "" {
		t.Fatalf("sockmapctl %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// read runs a command with -o json into v, which must have a field for all that comes. It returns the kind of
// the document.
func (n *testNode) read(t testing.TB, v any, command string) string {
	t.Helper()
	return decode(t, n.told(t, asked(command, "-o", "json")...), v)
}

// decode reads one document. v is a pointer to a struct, or to a slice for a list.
func decode(t testing.TB, text string, v any) (kind string) {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	var version string
	if err := errors.Join(json.Unmarshal(raw["apiVersion"], &version),
		json.Unmarshal(raw["kind"], &kind)); err != nil || version != apiVersion {
		t.Fatalf("version %q, kind %q, %v in %s", version, kind, err, text)
	}
	delete(raw, "apiVersion")
	delete(raw, "kind")
	fields, err := json.Marshal(raw)
	if items, ok := raw["items"]; ok && len(raw) == 1 {
		fields = items
	}
	dec := json.NewDecoder(bytes.NewReader(fields))
	dec.DisallowUnknownFields()
	if err := errors.Join(err, dec.Decode(v)); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return kind
}

func (n *testNode) open(t testing.TB) *datapath.Datapath {
	t.Helper()
	d, err := datapath.Open(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// add does what the plugin's ADD does for a container that lives in ns and g.
func (n *testNode) add(t testing.TB, sb endpoint.Sandbox, ns *netnstest.NetNS, g *group) {
	t.Helper()
	sb.Network, sb.IfName, sb.NetNSPath = "testnet", "eth0", ns.Path
	node := &endpoint.Node{Dir: n.dir, Settings: defaultSettings(), Root: n.files}
	var err error
	// Tests of other packages run at the same time, and attach programs above all cgroups for a moment.
	eventually(t, "no program of another test owns a sockmap above", func() bool {
		_, err = node.Add(t.Context(), sb, endpoint.Want{CgroupPath: g.path})
		return !errors.Is(err, datapath.ErrNeighbour)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	fixture.Wait(t, what, cond)
}
