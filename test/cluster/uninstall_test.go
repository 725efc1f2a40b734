// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/stub"
)

// testUninstallThatFails has a node on which something is in the way. The release stays, and can be brought
// back.
func testUninstallThatFails(t *testing.T) {
	install(t, newVersion, "--set", "uninstallHook.timeout=15s")
	c, _, clientPod, _ := pair(t)
	redirecting(t, c.name, clientPod.Metadata.Name)
	before := goesOn(t, c.name, 100)
	// The agent cannot know whether it may be without the plugin that this names.
	broken := filepath.Join(cniConfDir, "99-broken.conflist")
	if err := os.WriteFile(broken, []byte(`{"name":"broken","plugins":[{"type":"sockmap"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(broken)
	out, err := helm("uninstall", "--wait", "--timeout", "2m")
	if err == nil || !strings.Contains(err.Error(), "sockmap is uninstalled from 0 of 1 nodes") {
		t.Errorf("helm uninstall with a node that cannot be cleaned: %v: %s", err, out)
	}
	t.Logf("helm uninstall: %v", err)
	log := k(t, "-n", namespace, "logs", "job/"+release+"-uninstall")
	if !strings.Contains(log, "sockmap is uninstalled from 0 of 1 nodes") {
		t.Errorf("output of the hook's Job: %s", log)
	}
	if log := k(t, "-n", namespace, "logs", daemonSet); !strings.Contains(log, broken) {
		t.Errorf("the agent does not name %s:\n%s", broken, log)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if out := k(t, "-n", namespace, "get", "roles,rolebindings,serviceaccounts", "-o", "name",
		"-l", "app.kubernetes.io/component=uninstall"); out != "" {
		t.Errorf("the rights of the hook that failed are still there: %s", out)
	}
	keepRelease(t)
	late := server("late")
	deploy(t, late)
	latePod := podOf(t, late.name)
	wantAccelerated(t, latePod)
	wantRedirected(t, latePod.Metadata.Name, latePod.at())
	if after := goesOn(t, c.name, 100); after.Connections != before.Connections {
		t.Errorf("%d connections before, %d after the uninstall that failed", before.Connections, after.Connections)
	}
}

// keepRelease does what the chart's README describes for a release whose uninstall has failed.
func keepRelease(t *testing.T) {
	t.Helper()
	out, err := helm("history", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var revisions []struct{ Revision int }
	if err := json.Unmarshal(out, &revisions); err != nil || len(revisions) == 0 {
		t.Fatalf("helm history: %v: %s", err, out)
	}
	last := strconv.Itoa(revisions[len(revisions)-1].Revision)
	if out, err = helm("rollback", last, "--force-conflicts", "--wait", "--timeout", "3m"); err != nil {
		t.Fatalf("%v\n%s", err, agentReport())
	}
	t.Logf("helm rollback: %s", out)
	rolledOut(t, daemonSet, "-n", namespace)
	if got := statusOfNode(t); !got.Loaded || !got.Accelerating {
		t.Errorf("the node is %+v", got)
	}
}

// testUninstall removes the release while pods exchange traffic, and expects the node to be as before the
// installation.
func testUninstall(t *testing.T) {
	installed(t)
	c, s, clientPod, serverPod := pair(t)
	redirecting(t, c.name, clientPod.Metadata.Name)
	before := goesOn(t, c.name, 100)
	start := time.Now()
	out, err := helm("uninstall", "--wait", "--timeout", "3m")
	if err != nil {
		t.Fatalf("%v\n%s", err, agentReport())
	}
	t.Logf("helm uninstall took %s: %s", time.Since(start).Round(100*time.Millisecond), out)
	wantNodeClean(t)
	if after := goesOn(t, c.name, 300); after.Connections != before.Connections {
		t.Errorf("%d connections before, %d after the uninstall", before.Connections, after.Connections)
	}
	wantSame(t, c.name, clientPod)
	wantSame(t, s.name, serverPod)
	eventually(t, "the cluster has nothing of the release", func() error {
		out, err := kubectl("-n", namespace, "get", "all,serviceaccounts,roles,rolebindings", "-o", "name",
			"-l", "app.kubernetes.io/instance="+release)
		if err == nil && len(out) > 0 {
			err = fmt.Errorf("there is still:\n%s", out)
		}
		return err
	})
	// Pods that start from now on have the network as before.
	plain := server("plain")
	deploy(t, plain)
	k(t, "exec", podOf(t, plain.name).Metadata.Name, "--", "/load", "exchange", "-connect", serverPod.at())
}

// wantNodeClean expects that nothing of sockmap is left on the node except a stub, which stays while pods run
// that were added with the plugin.
func wantNodeClean(t *testing.T) {
	t.Helper()
	if b, err := os.ReadFile(conflistFile); err != nil || string(b) != conflist {
		t.Errorf("the network's configuration: %v\n%s", err, b)
	}
	for dir, want := range map[string][]string{cniConfDir: {filepath.Base(conflistFile)},
		"/sys/fs/bpf": atBoot} {
		if got := namesIn(t, dir); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", dir, got, want)
		}
	}
	wantPluginsClean(t)
	// 3: nothing is loaded.
	_, err := command(filepath.Join(tools.own, newVersion, "sockmapctl"), "status")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("sockmapctl status: %v", err)
	}
}

// wantPluginsClean expects the plugins that were there before, and a stub with the installers' lock file, or
// neither.
func wantPluginsClean(t *testing.T) {
	t.Helper()
	want := slices.Sorted(slices.Values(cniPlugins))
	f, err := os.Open(filepath.Join(cniBinDir, "sockmap"))
	if err == nil {
		defer f.Close()
		want = slices.Sorted(slices.Values(append(want, "sockmap", ".sockmap-lock")))
		st, err := f.Stat()
		if err != nil || !stub.Marked(f, st.Size()) {
			t.Errorf("%s is no stub: %v", f.Name(), err)
		}
	}
	if got := namesIn(t, cniBinDir); !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", cniBinDir, got, want)
	}
}

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
