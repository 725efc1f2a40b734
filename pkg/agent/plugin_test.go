// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"golang.org/x/sys/unix"
)

// tmpfs mounts a tmpfs over a directory.
func tmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=200m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
		t.Fatalf("remount: %v", err)
	}
}

// otherPrograms makes the loaded programs seem to be those of another version.
func (p *place) otherPrograms(t *testing.T) {
	t.Helper()
	digest := filepath.Join(p.StateDir, stateName(datapath.ABI), "programs")
	if err := os.Remove(digest); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sha256:of another version", digest); err != nil {
		t.Fatal(err)
	}
}

// refusals are reasons why a node does not run the plugin of this version, and how each ends.
var refusals = map[string]struct {
	refuse func(t *testing.T, p *place) (allow func())
	says   string
}{
	"noexec": {func(t *testing.T, p *place) func() {
		remount(t, p.BinDir, unix.MS_NOEXEC)
		return func() { remount(t, p.BinDir, 0) }
	}, "is mounted noexec"},
	"a binary that fails": {func(t *testing.T, p *place) func() {
		good, broken := mustRead(t, p.Source), filepath.Join(t.TempDir(), "sockmap")
		// The agent has this path for as long as it runs.
		if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		p.Source = broken
		return func() {
			fixed := filepath.Join(filepath.Dir(broken), "fixed")
			if err := os.WriteFile(fixed, good, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(fixed, broken); err != nil {
				t.Fatal(err)
			}
		}
	}, "exit status 3"},
}

func TestProgramsAreNotUpgradedIfThePluginCannotRun(t *testing.T) {
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.Version = "v1.3.0"
			p.loadAs(t, "v1.2.9")
			p.otherPrograms(t)
			tmpfs(t, p.BinDir)
			binary, content := p.putPlugin(t)
			allow := c.refuse(t, p)
			p.write(file, list)
			r := p.start(func(a *Agent) { a.Recheck = 100 * time.Millisecond })
			p.expectRefused(t, r, "programs: upgrade from v1.2.9 to v1.3.0: ", c.says)
			if v := p.config(t).Version; v != "v1.2.9" || !bytes.Equal(mustRead(t, binary), content) {
				t.Errorf("version %s is loaded, the old plugin is there: %v", v,
					bytes.Equal(mustRead(t, binary), content))
			}
			allow()
			eventually(t, "it is ready", func() bool { return r.ready(t) })
			p.expectOver(t, r, "the loaded programs and the installed plugin stay")
			if v := p.config(t).Version; v != "v1.3.0" || bytes.Equal(mustRead(t, binary), content) {
				t.Errorf("version %s is loaded, the old plugin is there: %v", v,
					bytes.Equal(mustRead(t, binary), content))
			}
		})
	}
}

// The installed plugin may be of another ABI, and loads its own programs.
func TestProgramsAreNotLoadedIfThePluginCannotBeReplaced(t *testing.T) {
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			tmpfs(t, p.BinDir)
			binary, content := p.putPlugin(t)
			allow := c.refuse(t, p)
			p.write(file, list)
			r := p.start(func(a *Agent) { a.Recheck = 100 * time.Millisecond })
			p.expectRefused(t, r, "programs: "+errNoPlugin.Error(), c.says)
			if p.loaded() || !bytes.Equal(mustRead(t, binary), content) {
				t.Errorf("loaded: %v, the old plugin is there: %v", p.loaded(), bytes.Equal(mustRead(t, binary), content))
			}
			allow()
			eventually(t, "it is ready", func() bool { return r.ready(t) })
			p.expectOver(t, r,
				"nothing is loaded; the installed plugin stays, and loads the programs of its own version")
			if !p.loaded() || bytes.Equal(mustRead(t, binary), content) {
				t.Errorf("loaded: %v, the old plugin is there: %v", p.loaded(), bytes.Equal(mustRead(t, binary), content))
			}
		})
	}
}

// expectRefused waits until the agent has looked at everything, and wants it not ready for the reason.
func (p *place) expectRefused(t *testing.T, r *running, says ...string) {
	t.Helper()
	eventually(t, "it looked at everything", func() bool {
		_, text := r.get(t, "/readyz")
		return !strings.Contains(text, errNotYet.Error())
	})
	code, text := r.get(t, "/readyz")
	for _, part := range append(says, "binary: "+errPluginStays.Error()) {
		if code == http.StatusOK || !strings.Contains(text, part) {
			t.Errorf("/readyz: %d %q, want %q", code, text, part)
		}
	}
}

// expectOver ends the agent and wants that it logged the reason once, and left no copy.
func (p *place) expectOver(t *testing.T, r *running, said string) {
	t.Helper()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if records := r.log.Records(t, said); len(records) != 1 {
		t.Errorf("it says %d times: %s", len(records), said)
	}
	if left := p.leftovers(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
