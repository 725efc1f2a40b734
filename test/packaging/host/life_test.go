// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const (
	list   = "/etc/cni/net.d/87-podman-bridge.conflist"
	config = "/etc/sockmap-cni/agent.yaml"
	plugin = "/opt/cni/bin/sockmap"
	unit   = "sockmap-agent.service"
)

// manager installs and removes one kind of packages.
type manager struct {
	format                   string
	install, upgrade, remove []string
	purge                    []string // also removes configuration; nil: there is none
}

var managers = []manager{
	{
		"deb", []string{"dpkg", "-i"}, []string{"dpkg", "-i"},
		[]string{"dpkg", "-r", "sockmap-cni"}, []string{"dpkg", "-P", "sockmap-cni"},
	},
	// Debian does not have the rpm packages on which these would depend.
	{
		"rpm", []string{"rpm", "-i", "--nodeps"}, []string{"rpm", "-U", "--nodeps"},
		[]string{"rpm", "-e", "--nodeps", "sockmap-cni"}, nil,
	},
}

// containers is podman's configuration for this machine's kernel.
func containers(backend string) string {
	// The cgroups of this machine may have no controllers, and its root may be an overlay.
	return "[engine]\nruntime = \"runc\"\nevents_logger = \"file\"\n[containers]\nlog_driver = \"k8s-file\"\n" +
		"pids_limit = 0\n[network]\nnetwork_backend = \"" + backend + "\"\n"
}

// host is a machine with a package.
type host struct {
	*machine
	manager
	text string // podman's list before anything was installed
}

func newHost(t *testing.T, with manager) *host {
	t.Helper()
	h := &host{machine: newMachine(t), manager: with}
	h.text = h.read(list)
	h.write("/etc/containers/containers.conf", containers("cni"))
	h.write("/etc/containers/storage.conf",
		"[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\n"+
			"graphroot = \"/var/lib/containers/storage\"\n")
	talk := filepath.Join(t.TempDir(), "talk")
	cmd := exec.Command("go", "build", "-C", filepath.Join(top, "test/e2e/runtimes"), "-o", talk, "./cmd/talk")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.copy(talk, "/srv/talk/talk")
	return h
}

// put installs or upgrades to a version.
func (h *host) put(how []string, version string) {
	h.Helper()
	path := h.copy(file(h.T, version, h.format, runtime.GOARCH), "/root/"+version+"."+h.format)
	h.run(append(how[:len(how):len(how)], path)...)
}

// begin makes the agent accelerate: the traffic here meets none of this kernel's hazards.
func (h *host) begin() {
	h.Helper()
	h.write(config, strings.Replace(h.read(config), "#acceptHazards: []", "acceptHazards: [all]", 1))
	h.run("systemctl", "enable", "--now", unit)
	h.until("the agent has chained", func() bool { return strings.Contains(h.read(list), `"sockmap"`) })
	h.until("the agent is ready", func() bool { _, err := h.try("sockmapctl", "status"); return err == nil })
}

func (h *host) start(name string, args ...string) {
	h.Helper()
	h.run(append([]string{"podman", "run", "--detach", "--name", name, "--rootfs", "/srv/talk", "/talk"},
		args...)...)
}

func (h *host) ip(name string) string {
	h.Helper()
	const address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
	return strings.TrimSpace(h.run("podman", "inspect", "--format", address, name))
}

// ask makes a new container send requests to the server, and returns the bytes that the node has redirected
// meanwhile.
func (h *host) ask(server string) (redirected uint64) {
	h.Helper()
	before := h.redirected()
	out := h.run("podman", "run", "--rm", "--rootfs", "/srv/talk", "/talk", "ask", h.ip(server)+":8080")
	if !strings.Contains(out, "ok ") {
		h.Fatalf("the client printed %q", out)
	}
	return h.redirected() - before
}

// redirected is the number of bytes of all containers, 0 if nothing is loaded.
func (h *host) redirected() (sum uint64) {
	h.Helper()
	out, err := h.try("sockmapctl", "attachments", "-o", "json")
	if err != nil {
		return 0
	}
	var all struct {
		Items []struct{ RedirectedBytes uint64 }
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		h.Fatal(err)
	}
	for _, e := range all.Items {
		sum += e.RedirectedBytes
	}
	return sum
}

func (h *host) active() bool {
	_, err := h.try("systemctl", "is-active", unit)
	return err == nil
}

func (h *host) pid() string {
	h.Helper()
	return strings.TrimSpace(h.run("systemctl", "show", "--property", "MainPID", "--value", unit))
}

func (h *host) chained() bool { return strings.Contains(h.read(list), `"sockmap"`) }

// From the installation of a package to its removal, on a machine with running containers.
func TestPackageFromInstallationToRemoval(t *testing.T) {
	for _, with := range managers {
		t.Run(with.format, func(t *testing.T) { life(newHost(t, with)) })
	}
}

func life(h *host) {
	h.put(h.install, older)
	if h.active() || h.chained() || h.exists(plugin) {
		h.Error("the package has begun something unasked")
	}
	if out := h.fails("systemctl", "is-enabled", unit); !strings.Contains(out, "disabled") {
		h.Errorf("the unit is %s", out)
	}
	h.begin()
	h.start("server", "serve", "0.0.0.0:8080")
	if n := h.ask("server"); n == 0 {
		h.Errorf("nothing was redirected\n%s", h.run("sockmapctl", "status"))
	}
	h.troubles()

	// A restart, and an upgrade, which keeps what the administrator has written.
	before, written := h.pid(), h.read(config)
	h.start("short", "serve", "0.0.0.0:8080")
	h.run("systemctl", "restart", unit)
	h.put(h.upgrade, newer)
	h.until("the agent of the new version runs", func() bool {
		return h.active() && h.pid() != before && h.pid() != "0"
	})
	if h.read(config) != written {
		h.Error("the upgrade has changed the configuration")
	}
	if !h.chained() || !h.exists(plugin) {
		h.Error("the upgrade has uninstalled")
	}
	if n := h.ask("server"); n == 0 {
		h.Error("nothing was redirected after the upgrade")
	}
	h.run("podman", "rm", "--force", "--time", "0", "short")
	if own, all := h.namespaces(h.pid()), h.namespaces("1"); own != all || all == 0 {
		h.Errorf("the agent has %d network namespaces mounted, the machine %d: it keeps dead ones", own, all)
	}
	h.troubles()
	h.removal()
}

// namespaces is the number of named network namespaces that a process sees.
func (h *host) namespaces(pid string) int {
	h.Helper()
	return strings.Count(h.read("/proc/"+pid+"/mountinfo"), " /run/netns/")
}

// removal removes the package while a container runs.
func (h *host) removal() {
	h.Helper()
	h.run(h.remove...)
	if h.active() || h.exists("/usr/bin/sockmapctl") {
		h.Error("there is something left of the package")
	}
	if got := h.read(list); got != h.text {
		h.Errorf("the list is not as it was:\n%s", got)
	}
	// podman calls the plugin for DEL of a container that was added with it.
	if !h.exists(plugin) {
		h.Error("a running container has no plugin for its DEL")
	}
	if h.exists("/sys/fs/bpf/sockmap") {
		h.Error("the state is left")
	}
	if h.ask("server") != 0 {
		h.Error("something was redirected")
	}
	h.run("podman", "rm", "--force", "--time", "0", "server")
	h.start("late", "serve", "0.0.0.0:8080")
	h.ask("late")
	h.run("podman", "rm", "--force", "--time", "0", "late")
	if h.purge != nil {
		h.run(h.purge...)
		if h.exists("/etc/sockmap-cni") {
			h.Error("the configuration is left after a purge")
		}
	}
}

// troubles fails for errors and warnings in the agent's log.
func (h *host) troubles() {
	h.Helper()
	log := h.run("journalctl", "--unit", unit, "--output", "cat", "--no-pager")
	for line := range strings.Lines(log) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") {
			h.Errorf("the agent logs: %s", line)
		}
	}
	if !strings.Contains(log, "agent begins") {
		h.Errorf("the journal has:\n%s", log)
	}
}
