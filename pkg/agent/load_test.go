// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
	"github.com/sockmap-cni/sockmap-cni/pkg/install"
)

func (p *place) loadAs(t *testing.T, version string) {
	t.Helper()
	n := &endpoint.Node{Dir: p.StateDir, Settings: datapath.Settings{
		MaxSockets: 1024, MaxBacklogBytes: 1 << 20, MaxBacklogMessages: 1024, Version: version,
	}}
	if loaded, err := n.Load(t.Context()); err != nil || !loaded {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
}

func (p *place) config(t *testing.T) datapath.Config {
	t.Helper()
	d, err := datapath.Open(p.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestProgramsOfAnOlderVersionAreUpgraded(t *testing.T) {
	p := newPlace(t)
	p.Version = "v1.3.0"
	p.loadAs(t, "v1.2.9")
	p.write(file, list)
	r := p.start()
	eventually(t, "it is upgraded", func() bool { return p.config(t).Version == "v1.3.0" })
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	said := r.log.Records(t, "upgraded the programs")
	if len(said) != 1 || said[0]["from"] != "v1.2.9" || said[0]["to"] != "v1.3.0" {
		t.Errorf("it says %v", said)
	}
}

// The same programs need no exchange, so only the versions show that this is a downgrade.
func TestProgramsOfANewerVersionAreKept(t *testing.T) {
	p := newPlace(t)
	p.Version = "v1.3.0"
	p.loadAs(t, "v1.4.0")
	p.write(file, list)
	r := p.start()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	if v := p.config(t).Version; v != "v1.4.0" {
		t.Errorf("version %s is loaded", v)
	}
	if said := r.log.Records(t, "upgraded the programs"); len(said) != 0 {
		t.Errorf("it says %v", said)
	}
}

// unfit replaces the pinned totals map by one of another size, and the programs by others. The result is
// state of the same ABI that this version's programs cannot take over. It returns how to undo that.
func (p *place) unfit(t *testing.T) (undo func()) {
	t.Helper()
	state := filepath.Join(p.StateDir, stateName(datapath.ABI))
	digest, pin := filepath.Join(state, "programs"), filepath.Join(state, "totals")
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUHash, KeySize: 8, ValueSize: 408, MaxEntries: 1024,
		Flags: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	totals, err := ebpf.LoadPinnedMap(pin, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { totals.Close() })
	err = errors.Join(os.Remove(digest), os.Symlink("sha256:of another version", digest), os.Remove(pin),
		other.Pin(pin))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := errors.Join(os.Remove(pin), totals.Pin(pin)); err != nil {
			t.Fatal(err)
		}
	}
}

// putPlugin writes a file in place of the plugin of another version.
func (p *place) putPlugin(t *testing.T) (binary string, content []byte) {
	t.Helper()
	binary, content = filepath.Join(p.BinDir, install.PluginType),
		[]byte("#!/bin/sh\n# the plugin of another version\n")
	if err := os.WriteFile(binary, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return binary, content
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestThePluginStaysWithProgramsThatCannotBeUpgraded(t *testing.T) {
	p := newPlace(t)
	p.Version = "v1.3.0"
	p.loadAs(t, "v1.2.9")
	undo := p.unfit(t)
	binary, content := p.putPlugin(t)
	p.write(file, list)
	r := p.start(func(a *Agent) { a.Recheck = 100 * time.Millisecond })
	eventually(t, "it looked at everything", func() bool {
		_, text := r.get(t, "/readyz")
		return !strings.Contains(text, "not checked yet")
	})
	code, text := r.get(t, "/readyz")
	want := []string{"programs: upgrade from v1.2.9 to v1.3.0: ", "totals", "values of 408 bytes"}
	for _, part := range want {
		if code == http.StatusOK || !strings.Contains(text, part) {
			t.Errorf("/readyz: %d %q, want %q", code, text, part)
		}
	}
	if _, text := r.get(t, "/metrics"); !strings.Contains(text, "sockmap_agent_ready 0\n") {
		t.Errorf("metrics do not say that it is not ready:\n%s", text)
	}
	if !bytes.Equal(mustRead(t, binary), content) {
		t.Error("the plugin was replaced, and the programs were not")
	}
	eventually(t, "the plugin that works is chained", p.chained)

	undo()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	if v := p.config(t).Version; v != "v1.3.0" || bytes.Equal(mustRead(t, binary), content) {
		t.Errorf("version %s is loaded, plugin of this version: %v", v, !bytes.Equal(mustRead(t, binary), content))
	}
}

func TestThePluginStaysWithStateOfANewerABI(t *testing.T) {
	for _, installed := range []bool{true, false} {
		p := newPlace(t)
		p.mkdir(filepath.Join(p.StateDir, stateName(datapath.ABI+1)))
		binary, content := filepath.Join(p.BinDir, install.PluginType), []byte(nil)
		if installed {
			binary, content = p.putPlugin(t)
		}
		p.write(file, list)
		r := p.start()
		eventually(t, "it looked at everything", func() bool {
			_, text := r.get(t, "/readyz")
			return strings.Contains(text, "programs: ") && !strings.Contains(text, "not checked yet")
		})
		if _, text := r.get(t, "/readyz"); !strings.Contains(text, "of a newer version") {
			t.Errorf("/readyz says %q", text)
		}
		if got := bytes.Equal(mustRead(t, binary), content); got != installed {
			t.Errorf("a plugin was there: %v, it stays: %v", installed, got)
		}
		r.stop()
	}
}

// stateName is the name of the directory in which the state of an ABI is pinned.
func stateName(abi uint32) string { return fmt.Sprintf("v%d", abi) }
