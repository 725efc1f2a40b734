// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if keep, ok := os.LookupEnv(dropVariable); ok {
		fmt.Fprintln(os.Stderr, drop(keep))
		os.Exit(125)
	}
	labtest.Main(m)
}

// patience bounds every call of the plugin.
const patience = 30 * time.Second

// prevResult is the result of the plugins before.
const prevResult = `{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}]}`

// world is a state directory of the test, and pods that no plugin has touched yet.
type world struct {
	testing.TB
	node *lab.Node
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	return &world{tb, labtest.NewNode(tb, lab.Options{})}
}

func (w *world) pod() *lab.Pod {
	w.Helper()
	return labtest.NewPod(w.TB, w.node, lab.PodSpec{})
}

// keys are keys of the configuration; nil removes one.
type keys map[string]any

// conf is what a runtime writes to standard input for p, which may be nil.
func (w *world) conf(p *lab.Pod, change keys) []byte {
	w.Helper()
	all := keys{
		"cniVersion": "1.1.0", "name": "net", "type": "sockmap",
		"bpffsPath": w.node.BPFFS(), "logLevel": "debug", "prevResult": json.RawMessage(prevResult),
		"acceptHazards": []string{"all"}, // these tests are not about the hazards of this kernel
	}
	if p != nil {
		all["runtimeConfig"] = map[string]any{"cgroupPath": w.cgroup(p)}
	}
	maps.Copy(all, change)
	for key, value := range all {
		if value == nil {
			delete(all, key)
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		w.Fatal(err)
	}
	return text
}

// cgroup is the path of p's cgroup below the cgroup2 mount.
func (w *world) cgroup(p *lab.Pod) string {
	return strings.TrimPrefix(p.CgroupPath(), filepath.Dir(w.node.CgroupPath()))
}

// env is the environment that a runtime sets for p, which may be nil.
func env(verb string, p *lab.Pod, more ...string) []string {
	vars := []string{"CNI_COMMAND=" + verb, "CNI_PATH=/opt/cni/bin"}
	if p != nil {
		s := p.Spec()
		vars = append(vars, "CNI_CONTAINERID="+p.ContainerID(), "CNI_NETNS="+p.NetNS(), "CNI_IFNAME=eth0",
			fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=%s",
				s.Namespace, s.Name, s.UID))
	}
	return append(vars, more...)
}

// answer is the result of one call of the plugin.
type answer struct {
	stdout, stderr string
	err            *types.Error // nil if the plugin succeeded
}

// run runs the real binary as a runtime does.
func run(tb testing.TB, env []string, stdin []byte) answer {
	tb.Helper()
	return runBinary(tb, filepath.Join(labtest.Plugins(tb), "sockmap"), env, stdin)
}

func runBinary(tb testing.TB, path string, env []string, stdin []byte) answer {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	a := answer{stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case !errors.As(err, &exit) || exit.ExitCode() != 1:
		tb.Fatalf("run plugin: %v\n%s%s", err, a.stdout, a.stderr)
	default:
		a.err = &types.Error{}
		if err := json.Unmarshal(stdout.Bytes(), a.err); err != nil {
			tb.Fatalf("the plugin failed with %q, which is no CNI error: %v", a.stdout, err)
		}
	}
	return a
}

func (w *world) add(p *lab.Pod, change keys) answer {
	w.Helper()
	return run(w.TB, env("ADD", p), w.conf(p, change))
}

// mustAdd expects success, with the result passed on.
func (w *world) mustAdd(p *lab.Pod, change keys) answer {
	w.Helper()
	a := w.add(p, change)
	if a.err != nil || a.stdout != compact(prevResult) {
		w.Fatalf("ADD: %v, %q\n%s", a.err, a.stdout, a.stderr)
	}
	return a
}

// compact formats a JSON text as conf embeds it.
func compact(text string) string {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		panic(err)
	}
	return b.String()
}

// records are the attachments of the node, by container.
func (w *world) records() map[string]endpoint.Attachment {
	w.Helper()
	n := endpoint.Node{Dir: w.node.BPFFS()}
	list, err := n.Attachments(context.Background())
	if err != nil && !errors.Is(err, datapath.ErrNotLoaded) {
		w.Fatal(err)
	}
	all := map[string]endpoint.Attachment{}
	for _, r := range list {
		all[r.ContainerID] = r
	}
	return all
}

// expectAccelerated fails unless exactly these pods have attachments, and are accelerated in their own
// cgroups.
func (w *world) expectAccelerated(pods ...*lab.Pod) {
	w.Helper()
	records := w.records()
	for _, p := range pods {
		r, ok := records[p.ContainerID()]
		if !ok || !r.Accelerated() || r.CgroupPath != p.CgroupPath() || r.NetNSCookie != p.NetNSCookie() {
			w.Errorf("pod %s is not accelerated in its cgroup %s: %+v", p, p.CgroupPath(), r)
		}
	}
	if len(records) != len(pods) {
		w.Errorf("%d records, want %d", len(records), len(pods))
	}
	links, err := (&endpoint.Node{Dir: w.node.BPFFS()}).Links(context.Background())
	if err != nil && !errors.Is(err, datapath.ErrNotLoaded) {
		w.Fatal(err)
	}
	groups := map[string]bool{}
	for _, p := range pods {
		groups[p.CgroupPath()] = true
	}
	if len(links) != len(groups) {
		w.Errorf("%d links, want %d", len(links), len(groups))
	}
}

// expectUntouched fails if the state directory exists.
func (w *world) expectUntouched() {
	w.Helper()
	if _, err := os.Stat(w.node.BPFFS()); !errors.Is(err, os.ErrNotExist) {
		w.Errorf("the state directory is there: %v", err)
	}
}

func expectCode(tb testing.TB, a answer, code uint, texts ...string) {
	tb.Helper()
	if a.err == nil {
		tb.Fatalf("the plugin succeeded with %q, want error code %d\n%s", a.stdout, code, a.stderr)
	}
	if a.err.Code != code {
		tb.Errorf("error code %d (%v), want %d", a.err.Code, a.err, code)
	}
	expectTexts(tb, "the error", a.err.Error(), texts...)
}

func expectTexts(tb testing.TB, what, got string, texts ...string) {
	tb.Helper()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			tb.Errorf("%s does not contain %q:\n%s", what, text, got)
		}
	}
}

// inPrivateMounts returns the plugin in a mount namespace of its own, after the commands in setup.
func inPrivateMounts(tb testing.TB, setup string) string {
	tb.Helper()
	return script(tb, "exec /usr/bin/unshare --mount /bin/sh -c '"+setup+" && exec %s'")
}

// script returns a program that runs the plugin, whose path replaces %s.
func script(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "sockmap")
	text = fmt.Sprintf("#!/bin/sh\n"+text+"\n", filepath.Join(labtest.Plugins(tb), "sockmap"))
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		tb.Fatal(err)
	}
	return path
}

func mkdir(tb testing.TB, path ...string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Join(path...), 0o700); err != nil {
		tb.Fatal(err)
	}
}

// flock keeps a directory locked until the end of the test.
func flock(tb testing.TB, dir string) {
	tb.Helper()
	f, err := os.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		tb.Fatal(err)
	}
}
