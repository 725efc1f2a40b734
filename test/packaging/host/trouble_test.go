// SPDX-License-Identifier: Apache-2.0

package host

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A removal that cannot be completed keeps the package and the files that are needed to complete it.
func TestARemovalThatFailsMayBeRepeated(t *testing.T) {
	for _, with := range managers {
		t.Run(with.format, func(t *testing.T) {
			h := newHost(t, with)
			h.put(h.install, older)
			h.begin()
			written := h.read(config)
			h.write(config, "colour: blue\n")
			out := h.fails(h.remove...)
			for _, want := range []string{config + ":1: colour: unknown key", "the package stays"} {
				if !strings.Contains(out, want) {
					t.Errorf("it prints %s, and not %s", out, want)
				}
			}
			if !h.exists("/usr/bin/sockmapctl") || !h.chained() || !h.exists(plugin) {
				t.Error("something was removed")
			}
			h.start("server", "serve", "0.0.0.0:8080")
			h.ask("server")
			h.write(config, written)
			h.removal()
		})
	}
}

// Installing and removing the package needs neither systemd nor mounts, so that it also works when an image
// is built.
func TestPackageInstallsIntoARootWithoutSystemd(t *testing.T) {
	m := newMachine(t)
	const root = "/srv/root"
	m.run("mkdir", "-p", root)
	// A copy of its own files, without mounts.
	m.run("mount", "--bind", "/", root)
	path := m.copy(file(t, older, "deb", runtime.GOARCH), "/root/package.deb")
	m.run("dpkg", "--root", root, "-i", path)
	m.run("mkdir", "-p", root+filepath.Dir(plugin))
	// without /proc it cannot find itself
	m.run("chroot", root, "sockmapctl", "install", "--config-file", config,
		"--plugin", "/usr/libexec/sockmap-cni/sockmap")
	if !m.exists(root + plugin) {
		t.Error("the plugin is not installed")
	}
	m.run("dpkg", "--root", root, "-r", "sockmap-cni")
	if m.exists(root+plugin) || strings.Contains(m.read(root+list), `"sockmap"`) {
		t.Error("the plugin is left")
	}
}

// A wrong configuration is reported once, in the journal and by the exit code, and the service does not
// restart in a loop.
func TestUnitReportsAWrongConfigurationOnce(t *testing.T) {
	h := newHost(t, managers[0])
	h.put(h.install, older)
	h.write(config, "entry:\n  peers: cluster\n")
	h.try("systemctl", "start", unit)
	h.until("the unit has failed", func() bool {
		_, err := h.try("systemctl", "is-failed", unit)
		return err == nil
	})
	got := h.run("systemctl", "show", "--property", "NRestarts,ExecMainStatus", unit)
	if !strings.Contains(got, "NRestarts=0") || !strings.Contains(got, "ExecMainStatus=2") {
		t.Errorf("the unit is %s", got)
	}
	log := h.run("journalctl", "--unit", unit, "--output", "cat", "--no-pager")
	if want := config + `:2: entry.peers: "cluster" is not one of node, namespace, pod`; !strings.Contains(log,
		want) {
		t.Errorf("the journal has\n%s, want\n%s", log, want)
	}
	if h.chained() {
		t.Error("it has chained")
	}
}

func TestTheUnitIsWellFormedAndConfined(t *testing.T) {
	h := newHost(t, managers[0])
	h.put(h.install, older)
	// Pages of the manual are not installed on this machine.
	if out, err := h.try("systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/"+unit); err != nil ||
		out != "" {
		t.Errorf("%v: %s", err, out)
	}
	out, err := h.try("systemd-analyze", "security", "--threshold=50", "--no-pager", unit)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
