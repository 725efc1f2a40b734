// SPDX-License-Identifier: Apache-2.0

package daemonset

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const path = "/apis/apps/v1/namespaces/kube-system/daemonsets/sockmap-cni"

// cluster is an API server with one DaemonSet, whose agents follow a patch after some requests for its
// status.
type cluster struct {
	mu          sync.Mutex
	args        []string
	annotations map[string]string
	container   string
	missing     bool
	patched     []map[string]any // the operations, one after the other
	looks       int              // since the patch
	failing     int              // answers that are errors, after the patch
	never       bool             // one agent is never ready
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer secret":
		http.Error(w, `{"message":"who are you?"}`, http.StatusUnauthorized)
	case r.URL.Path != path || c.missing:
		http.Error(w, `{"message":"not found"}`, http.StatusNotFound)
	case r.Method == http.MethodPatch:
		var ops []map[string]any
		if err := json.NewDecoder(r.Body).Decode(&ops); err != nil ||
			r.Header.Get("Content-Type") != "application/json-patch+json" {
			http.Error(w, `{"message":"no patch"}`, http.StatusUnsupportedMediaType)
			return
		}
		c.patched = append(c.patched, ops...)
		c.args = append(c.args, Flag)
	case c.failing > 0 && len(c.patched) > 0:
		c.failing--
		http.Error(w, "a proxy is out of order", http.StatusBadGateway)
	default:
		_ = json.NewEncoder(w).Encode(c.daemonSet())
	}
}

func (c *cluster) daemonSet() any {
	type m map[string]any
	generation, observed, updated, ready := 1, 1, 3, 3
	if slices.Contains(c.args, Flag) {
		c.looks++
		generation, observed = 2, min(c.looks, 2)
		updated, ready = min(c.looks-1, 3), max(min(c.looks-2, 3), 0)
		if c.looks == 1 {
			updated, ready = 3, 3 // as they were: the controller has not looked yet
		}
		if c.never {
			ready = min(ready, 2)
		}
	}
	container := c.container
	if container == "" {
		container = "agent"
	}
	return m{
		"metadata": m{"generation": generation, "annotations": c.annotations},
		"spec": m{"template": m{"spec": m{"containers": []m{
			{"name": "sidecar"}, {"name": container, "args": c.args},
		}}}},
		"status": m{"observedGeneration": observed, "desiredNumberScheduled": 3, "updatedNumberScheduled": updated,
			"numberReady": ready},
	}
}

// uninstall uninstalls from the cluster, and returns the progress that was reported.
func (c *cluster) uninstall(t *testing.T, timeout time.Duration) (reported []string, err error) {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	d := &DaemonSet{
		API: &API{Server: server.URL, Token: func() (string, error) { return "secret", nil },
			Client: server.Client()},
		Namespace: "kube-system", Name: "sockmap-cni", Progress: func(text string) {
			reported = append(reported, text)
		},
		Every: time.Millisecond,
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err = d.Uninstall(ctx)
	return reported, err
}

var helms = map[string]string{"meta.helm.sh/release-name": "sockmap-cni"}

func TestDaemonSetIsPatchedAndAllNodesAreAwaited(t *testing.T) {
	c := &cluster{args: []string{"agent"}, annotations: helms, failing: 2}
	reported, err := c.uninstall(t, time.Minute)
	if err != nil {
		t.Fatalf("%v, reported %q", err, reported)
	}
	want := []map[string]any{
		{"op": "test", "path": "/spec/template/spec/containers/1/name", "value": "agent"},
		{"op": "add", "path": "/spec/template/spec/containers/1/args/-", "value": "--uninstall"},
		{"op": "add", "path": "/spec/updateStrategy/rollingUpdate/maxUnavailable", "value": "100%"},
	}
	for i, op := range want {
		if i >= len(c.patched) || c.patched[i]["op"] != op["op"] || c.patched[i]["path"] != op["path"] ||
			c.patched[i]["value"] != op["value"] {
			t.Errorf("operation %d: %v, want %v", i, c.patched, op)
		}
	}
	if last := reported[len(reported)-1]; last != "sockmap is uninstalled from all 3 nodes" {
		t.Errorf("reported %q", reported)
	}
	if c.looks < 5 {
		t.Errorf("it looked %d times, and cannot have waited for the last agent", c.looks)
	}
}

func TestInterruptedUninstallIsContinued(t *testing.T) {
	c := &cluster{args: []string{"agent", Flag}, annotations: helms}
	if reported, err := c.uninstall(t, time.Minute); err != nil || len(c.patched) > 0 {
		t.Errorf("%v, reported %q, patched %v", err, reported, c.patched)
	}
}

func TestMissingDaemonSetIsNoError(t *testing.T) {
	c := &cluster{missing: true}
	if reported, err := c.uninstall(t, time.Minute); err != nil || len(reported) != 1 {
		t.Errorf("%v, reported %q", err, reported)
	}
}

func TestUninstallTimesOutIfNodesAreNotClean(t *testing.T) {
	c := &cluster{args: []string{"agent"}, annotations: helms, never: true}
	_, err := c.uninstall(t, 500*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 of 3 nodes") {
		t.Errorf("%v, want it to name how many nodes are clean", err)
	}
}

func TestForeignDaemonSetIsRefused(t *testing.T) {
	for name, c := range map[string]*cluster{
		"a DaemonSet of kubectl apply": {args: []string{"agent"}},
		"another DaemonSet":            {args: []string{"agent"}, annotations: helms, container: "other"},
	} {
		if reported, err := c.uninstall(t, time.Minute); err == nil || len(c.patched) > 0 {
			t.Errorf("%s: %v, reported %q, patched %v", name, err, reported, c.patched)
		}
	}
}

func TestServiceAccountOfThePodIsRead(t *testing.T) {
	c := &cluster{args: []string{"agent"}, annotations: helms}
	server := httptest.NewTLSServer(c)
	defer server.Close()
	dir := t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, content := range map[string][]byte{"ca.crt": authority, "token": []byte("secret\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	where, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"KUBERNETES_SERVICE_HOST": where.Hostname(),
		"KUBERNETES_SERVICE_PORT": where.Port()}
	api, err := inCluster(func(name string) string { return env[name] }, dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &DaemonSet{API: api, Namespace: "kube-system", Name: "sockmap-cni", Every: time.Millisecond}
	if err := d.Uninstall(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := inCluster(func(string) string { return "" }, dir); err == nil {
		t.Error("a process that is in no pod has an API server")
	}
	if _, err := inCluster(func(name string) string { return env[name] }, t.TempDir()); err == nil {
		t.Error("a pod without an account has one")
	}
}
