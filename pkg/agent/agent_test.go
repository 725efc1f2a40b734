// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/install"
	"github.com/sockmap-cni/sockmap-cni/test/fixture"
	"golang.org/x/sys/unix"
)

func TestAgentInstallsLoadsChainsAndServes(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	r := p.start()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	if !p.chained() || !p.loaded() {
		t.Errorf("chained: %v, loaded: %v", p.chained(), p.loaded())
	}
	if st, err := os.Stat(filepath.Join(p.BinDir, "sockmap")); err != nil || st.Mode() != 0o755 {
		t.Errorf("binary: %v, %v", st, err)
	}
	if code, text := r.get(t, "/healthz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("healthz: %d %q", code, text)
	}
	code, text := r.get(t, "/metrics")
	for _, want := range []string{"sockmap_agent_ready 1", "sockmap_agent_repairs_total 0",
		"sockmap_agent_polling 0", `sockmap_build_info{version="test"} 1`, "sockmap_enabled 1"} {
		if code != http.StatusOK || !strings.Contains(text, want+"\n") {
			t.Errorf("metrics (%d) have no %q:\n%s", code, want, text)
		}
	}
	if code, _ := r.get(t, "/other"); code != http.StatusNotFound {
		t.Errorf("another path: %d", code)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if !p.chained() || !p.loaded() || len(p.leftovers()) > 0 {
		t.Errorf("after its end chained: %v, loaded: %v, left: %q", p.chained(), p.loaded(), p.leftovers())
	}
	if n := len(r.log.Records(t, "another component undid the installation; it is repaired")); n != 0 {
		t.Errorf("it fought itself %d times", n)
	}
}

func TestAgentWaitsForANetwork(t *testing.T) {
	p := newPlace(t)
	if err := os.Remove(p.ConfDir); err != nil {
		t.Fatal(err)
	}
	r := p.start()
	notReady := func(want string) {
		t.Helper()
		eventually(t, "it says why it is not ready: "+want, func() bool {
			code, text := r.get(t, "/readyz")
			return code == http.StatusServiceUnavailable && text == want+"\n"
		})
	}
	notReady("network: no network configuration to chain into: stat " + p.ConfDir +
		": no such file or directory")
	p.mkdir(p.ConfDir)
	notReady("network: no network configuration to chain into in " + p.ConfDir)
	// Written in two parts, with a pause: half of it is not JSON.
	f, err := os.Create(filepath.Join(p.ConfDir, file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(list[:20]); err != nil {
		t.Fatal(err)
	}
	fixture.Elapse(3*settle, "the agent looks settle after a change")
	if _, err := f.WriteString(list[20:]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	if n := len(r.log.Records(t, "waiting for a network configuration")); n < 1 || n > 4 {
		t.Errorf("it said %d times that it waits", n)
	}
}

func TestUndoneInstallationIsRepairedAtOnceAndLogged(t *testing.T) {
	const message = "another component undid the installation; it is repaired"
	path := func(p *place) string { return filepath.Join(p.ConfDir, file) }
	binary := func(p *place) string { return filepath.Join(p.BinDir, "sockmap") }
	for name, c := range map[string]struct {
		undo   func(p *place) error
		change string
		file   func(p *place) string
		owner  bool
	}{
		"written in place": {
			func(p *place) error { return os.WriteFile(path(p), []byte(list), 0o644) }, `plugin "sockmap" was removed`,
			path, true,
		},
		"renamed over": {
			func(p *place) error {
				other := strings.Replace(list, `]}`, `,{"type":"portmap"}],"disableCheck":true}`, 1)
				return errors.Join(os.WriteFile(path(p)+".new", []byte(other), 0o644), os.Rename(path(p)+".new", path(p)))
			},
			`key "disableCheck" was added; plugin "portmap" was added; plugin "sockmap" was removed`, path, true,
		},
		"binary removed": {func(p *place) error { return os.Remove(binary(p)) },
			"the plugin was removed or changed", binary, false},
		"binary replaced": {func(p *place) error {
			return errors.Join(os.Remove(binary(p)), os.WriteFile(binary(p), []byte("x"), 0o755))
		}, "the plugin was removed or changed", binary, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.write(file, list)
			r := p.start()
			eventually(t, "it is ready", func() bool { return r.ready(t) })
			start := time.Now()
			if err := c.undo(p); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is put right", func() bool {
				return len(r.log.Records(t, message)) > 0 && p.chained() && r.ready(t)
			})
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			record := r.log.Records(t, message)[0]
			if record["file"] != c.file(p) || record["change"] != c.change || record["level"] != "WARN" {
				t.Errorf("it says %v", record)
			}
			if owner, _ := record["probably"].(string); strings.Contains(owner, "cni.exclusive=false") != c.owner {
				t.Errorf("it says that it was probably %q", owner)
			}
			if _, text := r.get(t, "/metrics"); !strings.Contains(text, "sockmap_agent_repairs_total 1\n") {
				t.Error("the repair is not counted")
			}
		})
	}
}

// Without a throttle, the agent and a component that rewrites its file after each change would never stop.
func TestRepeatedRepairsAreThrottled(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	r := p.start()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	rewrites := 0
	fixture.Within(6*time.Second, func() bool {
		if p.chained() {
			p.write(file, list)
			rewrites++
		}
		return false
	})
	// At 0, 1, 3 seconds, and not before 7.
	if rewrites < 3 || rewrites > 5 {
		t.Errorf("the file was written %d times in six seconds", rewrites)
	}
	if code, text := r.get(t, "/readyz"); code == http.StatusOK ||
		!strings.Contains(text, "network: the plugin's entry is missing") {
		t.Errorf("readyz while it waits: %d %q", code, text)
	}
	if code, _ := r.get(t, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz while it waits: %d", code)
	}
	eventually(t, "it tries again", p.chained)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestAgentFollowsReplacedDirectories(t *testing.T) {
	for name, replace := range map[string]func(p *place) error{
		"removed and made again": func(p *place) error {
			return errors.Join(os.RemoveAll(p.ConfDir), os.RemoveAll(p.BinDir), os.Mkdir(p.BinDir, 0o755),
				os.Mkdir(p.ConfDir, 0o755))
		},
		"moved away": func(p *place) error {
			return errors.Join(os.Rename(p.ConfDir, p.ConfDir+".old"), os.Rename(p.BinDir, p.BinDir+".old"),
				os.Mkdir(p.BinDir, 0o755), os.Mkdir(p.ConfDir, 0o755))
		},
		"missing for a while": func(p *place) error {
			err := errors.Join(os.RemoveAll(p.ConfDir), os.RemoveAll(p.BinDir))
			fixture.Elapse(3*settle, "the agent looks settle after a change")
			return errors.Join(err, os.Mkdir(p.ConfDir, 0o755), os.Mkdir(p.BinDir, 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.write(file, list)
			r := p.start(func(a *Agent) { a.Recheck = time.Hour })
			eventually(t, "it is ready", func() bool { return r.ready(t) })
			if err := replace(p); err != nil {
				t.Fatal(err)
			}
			fixture.Elapse(3*settle, "the agent looks settle after a change")
			p.write(file, list)
			eventually(t, "it is chained", func() bool { return p.chained() && r.ready(t) })
			// The new directory is watched, too.
			fixture.Elapse(3*settle, "the agent looks settle after a change")
			p.write(file, list)
			eventually(t, "it is chained again", p.chained)
		})
	}
}

// A directory that is bind-mounted into a container and removed on the host is an empty directory without a
// name.
func TestADirectoryThatIsRemovedUnderItsMountEndsTheAgent(t *testing.T) {
	p := newPlace(t)
	host := p.ConfDir
	p.ConfDir = filepath.Join(t.TempDir(), "mounted")
	p.mkdir(p.ConfDir)
	if err := unix.Mount(host, p.ConfDir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(p.ConfDir, unix.MNT_DETACH) })
	p.write(file, list)
	r := p.start(func(a *Agent) { a.Recheck = time.Second })
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	if err := os.RemoveAll(host); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it ends", func() bool {
		_, err := net.DialTimeout("tcp", r.address, time.Second)
		return err != nil
	})
	if err := r.stop(); err == nil || !strings.Contains(err.Error(), p.ConfDir+" was removed on the host") {
		t.Errorf("it ended with %v", err)
	}
}

func TestAgentReportsAFullDiskAndRecovers(t *testing.T) {
	p := newPlace(t)
	p.ConfDir = t.TempDir()
	if err := unix.Mount("tmpfs", p.ConfDir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(p.ConfDir, unix.MNT_DETACH) })
	p.write(file, list)
	ballast := filepath.Join(p.ConfDir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	r := p.start()
	eventually(t, "it says so", func() bool {
		_, text := r.get(t, "/readyz")
		return strings.Contains(text, filepath.Join(p.ConfDir, file)) &&
			strings.Contains(text, "no space left on device")
	})
	if got := p.types(); !slices.Equal(got, []string{"cilium-cni"}) {
		t.Errorf("plugins are %q", got)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is ready", func() bool { return r.ready(t) && p.chained() })
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if left := p.leftovers(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestPluginIsChainedWithoutProgramsOnlyIfRequired(t *testing.T) {
	for config, want := range map[string]bool{`{}`: false, `{"required":true}`: true} {
		p := newPlace(t)
		p.write(file, list)
		p.Config = config
		r := p.start(func(a *Agent) { a.Node.Dir = filepath.Join(p.ConfDir, "no-bpffs", "sockmap") })
		eventually(t, "it says why", func() bool {
			_, text := r.get(t, "/readyz")
			return strings.Contains(text, "programs: no bpffs") &&
				len(r.log.Records(t, "containers cannot be accelerated")) > 0
		})
		if want {
			eventually(t, "it is chained", p.chained)
		} else {
			// The round reports this after it has decided about the network.
			eventually(t, "it says that it has not chained", func() bool {
				_, text := r.get(t, "/readyz")
				return strings.Contains(text, partNetwork+": "+errNotChained.Error())
			})
			if p.chained() {
				t.Errorf("%s: it is chained", config)
			}
		}
		r.stop()
	}
}

func TestListenAddressInUseDoesNotStopTheAgent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	p.write(file, list)
	r := p.start(func(a *Agent) {
		a.Listen = l.Addr().String()
		a.Serving = nil
	})
	r.address = l.Addr().String()
	eventually(t, "it is chained", p.chained)
	eventually(t, "it says so", func() bool {
		return len(r.log.Records(t, "metrics, /healthz and /readyz are not served")) > 0
	})
	l.Close()
	eventually(t, "it serves", func() bool {
		c, err := net.DialTimeout("tcp", r.address, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	eventually(t, "it is ready", func() bool { return r.ready(t) })
}

func TestAgentUninstallsAtItsEndIfConfigured(t *testing.T) {
	p := newPlace(t)
	p.write(file, list)
	p.Uninstall = true
	r := p.start()
	eventually(t, "it is ready", func() bool { return r.ready(t) })
	i := &install.Installer{BinDir: p.BinDir, ConfDir: p.ConfDir}
	if _, err := i.Uninstall(t.Context(), install.Removal{}); err == nil ||
		!strings.Contains(err.Error(), "stop it first") {
		t.Errorf("uninstall under it: %v", err)
	}
	if !p.chained() {
		t.Error("that has taken the entry out")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(p.ConfDir, file))
	if err != nil || string(text) != list || p.loaded() {
		t.Errorf("left: %v, %s, loaded: %v", err, text, p.loaded())
	}
	if _, err := os.Stat(filepath.Join(p.BinDir, "sockmap")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the binary: %v", err)
	}
}
