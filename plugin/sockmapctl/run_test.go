// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/test/lab/cmp"
)

// views are what each noun prints with -o json.
func views() map[string]any {
	return map[string]any{
		"status": &statusView{}, "attachments": &[]attachmentView{}, "flows": &[]live.Flow{},
		"metrics": &[]metricView{},
		"version": &versionView{}, "doctor": &doctorView{}, "bench": &benchView{}, "avoided": &[]avoidedView{},
		"policy": &[]policyView{},
	}
}

// documentedViews are those of nouns that need arguments, too, and of flags that print another kind.
func documentedViews() map[string]any {
	all := views()
	all["explain"], all["adopt"], all["flows --pairs"] = &explainView{}, &[]standingView{}, &[]live.Pair{}
	return all
}

// asked is a noun with the flags that make it succeed on every kernel.
func asked(noun string, flags ...string) []string {
	if noun == "doctor" {
		flags = append(flags, "--accept-hazards", "all")
	}
	if noun == "bench" {
		flags = append(flags, "--duration", "3s")
	}
	return append([]string{noun}, flags...)
}

// documentKinds are those of the documents, by command.
var documentKinds = map[string]string{
	"status": "Status", "attachments": "AttachmentList", "flows": "FlowList", "metrics": "MetricList",
	"version": "Version",
	"doctor":  "Doctor", "bench": "Bench", "avoided": "AvoidedList", "policy": "PolicyList",
	"explain": "Explanation", "adopt": "PodStatusList", "flows --pairs": "FlowPairList",
}

func TestEveryJSONDocumentRoundTrips(t *testing.T) {
	for name, n := range map[string]*testNode{"a busy node": busyNode(t), "an empty node": newLoadedNode(t)} {
		for command, v := range views() {
			text := n.told(t, asked(command, "-o", "json")...)
			if kind := decode(t, text, v); kind != documentKinds[command] {
				t.Errorf("%s has the kind %s, want %s", command, kind, documentKinds[command])
			}
			again, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			second := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := json.Unmarshal(again, second); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v, second); diff != "" {
				t.Errorf("%s of %s: %s", command, name, diff)
			}
			var raw any
			if err := json.Unmarshal([]byte(text), &raw); err != nil {
				t.Fatal(err)
			}
			for _, path := range nulls(command, raw) {
				t.Errorf("%s of %s is null", path, name)
			}
		}
	}
}

// nulls finds every null in decoded JSON.
func nulls(path string, v any) (found []string) {
	switch v := v.(type) {
	case nil:
		return []string{path}
	case []any:
		for i, e := range v {
			found = append(found, nulls(fmt.Sprintf("%s[%d]", path, i), e)...)
		}
	case map[string]any:
		for key, e := range v {
			found = append(found, nulls(path+"."+key, e)...)
		}
	}
	return found
}

func TestArraysAreEmptyRatherThanNull(t *testing.T) {
	n := newLoadedNode(t)
	for _, command := range []string{"flows", "attachments"} {
		if got := n.ok(t, command, "-o", "json"); !strings.HasSuffix(got, "\"items\": []\n}\n") {
			t.Errorf("%s of an empty node is %q", command, got)
		}
	}
	r := newTestNode(t).run(t, "status", "-o", "json")
	var raw map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &raw); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"status.node"}, nulls("status", raw)); diff != "" {
		t.Errorf("nulls of a status without loaded programs: %s", diff)
	}
}

// program is this test binary as sockmapctl, in a process of its own.
func program(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", pathVariable+"="+dir)
	return cmd
}

func TestClosedOutputIsNoError(t *testing.T) {
	n := manyFlows(t, 200)
	cmd := program(n.dir, "flows", "-o", "json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	r.Close() // before the first byte
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("it ended with %v, want an end by the closed pipe", err)
	}
	if stderr.Len() > 0 {
		t.Errorf("it says %q", stderr.String())
	}
}

// brokenPipe is a pipe whose reader is gone, without the signal that comes with it.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestABrokenPipeIsQuietInEveryNoun(t *testing.T) {
	n := newLoadedNode(t)
	for noun := range views() {
		for _, args := range [][]string{asked(noun), asked(noun, "-o", "json")} {
			var stderr bytes.Buffer
			if code := n.runTo(brokenPipe{}, &stderr, args...); code != exitError || stderr.Len() > 0 {
				t.Errorf("%s: exit code %d, %q", args, code, stderr.String())
			}
		}
	}
}

func TestCommandsLeaveNoDescriptorsOpen(t *testing.T) {
	n, g := newLoadedNode(t), newGroup(t)
	everything := func() {
		for noun := range views() {
			n.ok(t, asked(noun)...)
		}
		for _, args := range [][]string{
			{"attach", "--cgroup", g.path}, {"disable"}, {"enable"}, {"detach", "--cgroup", g.path}, {"gc"},
			{"unload"}, {"load"},
		} {
			n.ok(t, args...)
		}
	}
	everything() // what is opened once in a process is open now
	before := openFiles(t)
	for range 3 {
		everything()
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestErrorForOtherUsersSaysRunAsRoot(t *testing.T) {
	n := newLoadedNode(t)
	// Other users must be able to reach the bpffs, or the error is about a directory above it.
	for dir := n.dir; dir != os.TempDir(); dir = dir[:strings.LastIndexByte(dir, '/')] {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"status"}, {"flows"}, {"metrics"}, {"disable"}, {"load"}, {"unload"}} {
		cmd := program(n.dir, args...)
		cmd.Path = reachable(t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), "sockmapctl: ") ||
			!strings.Contains(string(out), "run as root") {
			t.Errorf("%s: %v, %q", args, err, out)
		}
	}
}

// reachable copies the test binary to where every user may run it.
func reachable(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sockmapctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(dir+"/sockmapctl", program, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir + "/sockmapctl"
}
