// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/fixture"
)

const conflist = `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"bridge","ipam":{"type":"host-local"}}]}`

// The agent, with the arguments, rights and mounts of the chart, becomes ready on this kernel: it has
// installed the plugin, chained it and loaded the programs. At its end, with uninstallOnExit, it undoes all
// of that.
func TestAgentBecomesReady(t *testing.T) {
	program := build(t)
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	c := agentContainer(t, program, map[string]any{
		"metrics": map[string]any{"address": host, "port": json.Number(port)},
		"agent":   map[string]any{"uninstallOnExit": true},
		"cni":     map[string]any{"acceptHazards": []any{"all"}},
	})
	bin, conf := c.source(t, "/opt/cni/bin"), c.source(t, "/etc/cni/net.d")
	list := filepath.Join(conf, "10-net.conflist")
	if err := os.WriteFile(list, []byte(conflist), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, stop := c.start(t, c.Args...)
	t.Cleanup(stop)
	await(t, "http://"+address+"/readyz", cmd.complaint)
	if _, err := os.Stat(filepath.Join(bin, "sockmap")); err != nil {
		t.Error(err)
	}
	if chained, err := os.ReadFile(list); err != nil || !strings.Contains(string(chained), `"sockmap"`) {
		t.Errorf("the list is %s (%v)", chained, err)
	}
	if text := get(t, "http://"+address+"/metrics"); !strings.Contains(text, "sockmap_enabled 1") {
		t.Errorf("metrics:\n%s", text)
	}
	stop()
	if left, err := os.ReadFile(list); err != nil || strings.Contains(string(left), `"sockmap"`) {
		t.Errorf("after the end the list is %s (%v)", left, err)
	}
	if _, err := os.Stat(filepath.Join(bin, "sockmap")); !os.IsNotExist(err) {
		t.Errorf("after the end the plugin is still there: %v", err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await waits until url returns status 200.
func await(t *testing.T, url string, why func() string) {
	t.Helper()
	last := "no answer"
	if !fixture.Within(fixture.Patience, func() bool {
		code, text, err := fetch(url)
		last = fmt.Sprint(code, text, err)
		return code == http.StatusOK
	}) {
		t.Fatalf("%s: %s\n%s", url, last, why())
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	_, text, err := fetch(url)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func fetch(url string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(text), err
}
