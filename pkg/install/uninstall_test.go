// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/labtest"
)

// newNode is a lab node with the reference plugins and the one that p installs.
func newNode(t testing.TB, p *place) *lab.Node {
	t.Helper()
	reference := labtest.Plugins(t)
	for _, name := range []string{"bridge", "ptp", "host-local", "portmap", "loopback", "tuning"} {
		if err := os.Symlink(filepath.Join(reference, name), filepath.Join(p.BinDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	n := labtest.NewNode(t, lab.Options{BinDir: p.BinDir})
	p.cache = filepath.Join(n.Dir(), "cni")
	var err error
	if p.Entry, err = p.Entry.With("bpffsPath", n.BPFFS()); err != nil {
		t.Fatal(err)
	}
	if p.Entry, err = p.Entry.With("acceptHazards", []string{"all"}); err != nil {
		t.Fatal(err)
	}
	return n
}

// primary is a list without sockmap.
func primary(t testing.TB, n *lab.Node) string {
	t.Helper()
	return string(labtest.Conflist(t, n, lab.Network{
		Name: "primary", Bridge: "br0", Without: []string{"portmap", PluginType},
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.99.0.0/24")},
	}))
}

// cachedList is the list with which CRI-O and podman call DEL.
func cachedList(t testing.TB, n *lab.Node) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.Dir(), "cni", "results", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("cached are %q, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Kind   string `json:"kind"`
		Config []byte `json:"config"`
	}
	if err := json.Unmarshal(text, &c); err != nil || c.Kind != libcni.CNICacheV1 {
		t.Fatalf("%v, %s", err, text)
	}
	return c.Config
}

func TestACachedAttachmentKeepsTheStubUntilItsDEL(t *testing.T) {
	p := newPlace(t)
	n := newNode(t, p)
	before := primary(t, n)
	path := p.write("10-primary.conflist", before)
	p.install()
	node := &endpoint.Node{Dir: n.BPFFS(), Settings: datapath.Settings{MaxSockets: 1024,
		MaxBacklogBytes: 1 << 20, MaxBacklogMessages: 1024}}
	pod := labtest.NewPod(t, n, lab.PodSpec{})
	old := []byte(p.read(filepath.Base(path)))
	if _, err := n.ADD(t.Context(), old, pod); err != nil {
		t.Fatal(err)
	}
	if records, err := node.Attachments(t.Context()); err != nil || len(records) != 1 {
		t.Fatalf("the plugin was not called: %v, %v", records, err)
	}
	r := Removal{Node: node, CacheDirs: []string{p.cache}, DrainFor: time.Second}
	done, err := p.Uninstall(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !done.Unloaded || done.Binary || len(done.Stub) != 1 || done.Stub[0].ContainerID != pod.ContainerID() ||
		done.Stub[0].Network != "primary" {
		t.Errorf("uninstall did %+v", done)
	}
	if got := p.read(filepath.Base(path)); got != before {
		t.Errorf("the list is %s", got)
	}
	if _, err := os.Stat(n.BPFFS()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins are left: %v", err)
	}
	// A runtime that has not read the list again yet.
	late := labtest.NewPod(t, n, lab.PodSpec{})
	if _, err := n.ADD(t.Context(), old, late); err != nil {
		t.Errorf("ADD with the old list: %v", err)
	}
	if err := n.CHECK(t.Context(), old, late); err != nil {
		t.Errorf("CHECK with the old list: %v", err)
	}
	if err := n.DEL(t.Context(), old, late); err != nil {
		t.Errorf("DEL with the old list: %v", err)
	}
	if _, err := os.Stat(n.BPFFS()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stub has loaded: %v", err)
	}
	// The stub is needed: without it the pod could not be removed.
	hidden := p.Binary() + ".hidden"
	cached := cachedList(t, n)
	if err := os.Rename(p.Binary(), hidden); err != nil {
		t.Fatal(err)
	}
	if err := n.DEL(t.Context(), cached, pod); err == nil ||
		!strings.Contains(err.Error(), `failed to find plugin "sockmap"`) {
		t.Errorf("DEL without the stub: %v", err)
	}
	if err := os.Rename(hidden, p.Binary()); err != nil {
		t.Fatal(err)
	}
	if err := n.DEL(t.Context(), cached, pod); err != nil {
		t.Errorf("DEL from the cache: %v", err)
	}
	if done, err = p.Uninstall(t.Context(), r); err != nil || !done.Binary || len(done.Stub) != 0 {
		t.Errorf("the last uninstall did %+v, %v", done, err)
	}
	if exists, err := exists(p.Binary()); exists || err != nil {
		t.Errorf("the binary is there: %v", err)
	}
	p.expectNoLeftovers()
}

func TestUninstallWaitsForCachedAttachments(t *testing.T) {
	p := newPlace(t)
	p.write("10-a.conflist", conflists[0].text)
	c := p.install()
	file := p.cached("net-container-eth0",
		fmt.Sprintf(`{"kind":"cniCacheV1","containerId":"container","config":%s,"ifName":"eth0","networkName":"net"}`,
			mustJSON(t, c.After)))
	time.AfterFunc(500*time.Millisecond, func() { os.Remove(file) })
	start := time.Now()
	done, err := p.Uninstall(t.Context(), Removal{CacheDirs: []string{p.cache}, WaitFor: patience})
	if err != nil || !done.Binary || time.Since(start) < 400*time.Millisecond {
		t.Errorf("after %v: %+v, %v", time.Since(start), done, err)
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (p *place) cached(name, text string) string {
	p.Helper()
	path := filepath.Join(p.cache, name)
	if filepath.Base(name) == name {
		path = filepath.Join(p.cache, "results", name)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700),
		os.WriteFile(path, []byte(text), 0o600)); err != nil {
		p.Fatal(err)
	}
	return path
}

func TestCacheFilesThatNameThePluginAreFound(t *testing.T) {
	config := func(text string) string { return string(mustJSON(t, []byte(text))) }
	for name, c := range map[string]struct {
		file, text string
		names      bool
	}{
		"a list with it": {"a", `{"kind":"cniCacheV1","config":` +
			config(`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp"},{"type":"sockmap"}]}`) + `}`, true},
		"a list without it": {"a", `{"kind":"cniCacheV1","config":` +
			config(`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp","name":"sockmap"}]}`) + `}`, false},
		"a list that is cut": {"a", `{"kind":"cniCacheV1","config":` +
			config(`{"cniVersion":"1.0.0","plugins":[{"type":"sockmap"}`) + `}`, true},
		"a legacy result":      {"a", `{"cniVersion":"0.4.0","interfaces":[]}`, false},
		"half a file":          {"a", `{"kind":"cniCacheV1","config":"`, false},
		"a delegate of Multus": {"multus/id", `[{"Conf":{"plugins":[{"type":"sockmap"}]}}]`, true},
		"another of Multus":    {"multus/id", `[{"Conf":{"plugins":[{"type":"ptp"}]}}]`, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.cached(c.file, c.text)
			found, err := CachedAttachments(p.cache)
			if err != nil || (len(found) == 1) != c.names {
				t.Errorf("found %v, %v; want that it names the plugin: %v", found, err, c.names)
			}
		})
	}
}

func TestUnreadableCacheKeepsTheStub(t *testing.T) {
	p := newPlace(t)
	p.write("10-a.conflist", conflists[0].text)
	p.install()
	done, err := p.Uninstall(t.Context(), Removal{CacheDirs: []string{filepath.Join(p.cache, "elsewhere")}})
	if err != nil || done.Binary || done.CacheError == nil ||
		!strings.Contains(done.CacheError.Error(), "elsewhere") {
		t.Errorf("did %+v, %v", done, err)
	}
	if err := checkAnswers(t.Context(), p.Binary()); err != nil {
		t.Error(err)
	}
	if done, err = p.Uninstall(t.Context(), Removal{}); err != nil || !done.Binary {
		t.Errorf("where no runtime caches it did %+v, %v", done, err)
	}
}

func TestDirectoriesThatAreGoneNeedNoUninstall(t *testing.T) {
	p := newPlace(t)
	if err := errors.Join(os.RemoveAll(p.BinDir), os.RemoveAll(p.ConfDir)); err != nil {
		t.Fatal(err)
	}
	if done := p.uninstall(); done.Binary || len(done.Unchained) != 0 {
		t.Errorf("did %+v", done)
	}
}
