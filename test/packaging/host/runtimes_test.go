// SPDX-License-Identifier: Apache-2.0

package host

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What docs/hosts/PODMAN.md describes for containers that ran before.
func TestAContainerOfPodmanIsAdoptedByItsID(t *testing.T) {
	h := newHost(t, managers[0])
	h.put(h.install, older)
	h.start("early", "serve", "0.0.0.0:8080")
	h.begin()
	if h.ask("early") != 0 {
		t.Error("redirected before it was adopted")
	}
	// Debian 12's podman stores no network namespace in libcni's cache, so only podman knows whose it is.
	if out := h.run("sockmapctl", "adopt", "--all", "--cri", "none"); !strings.Contains(out,
		"adopted 0 of 0 pods") {
		t.Errorf("--all prints %s", out)
	}
	id := strings.TrimSpace(h.run("podman", "ps", "--quiet", "--filter", "name=early"))
	h.run("sockmapctl", "adopt", "--cri", "none", id)
	if h.ask("early") == 0 {
		t.Errorf("nothing was redirected\n%s", h.run("sockmapctl", "attachments"))
	}
	h.run("podman", "rm", "--force", "--time", "0", "early")
	// podman's DEL does not include sockmap, because its own list is older.
	h.run("sockmapctl", "gc")
	if out := h.run("sockmapctl", "attachments", "--no-headers"); strings.TrimSpace(out) != "" {
		t.Errorf("left: %s", out)
	}
}

// What docs/hosts/PODMAN.md describes for podman without CNI.
func TestPodmanWithNetavarkIsAcceleratedByItsSlice(t *testing.T) {
	h := newHost(t, managers[0])
	h.put(h.install, older)
	h.write("/etc/containers/containers.conf", containers("netavark"))
	h.start("early", "serve", "0.0.0.0:8080") // machine.slice exists from the first container on
	h.run("sockmapctl", "attach", "--cgroup", "machine.slice", "--accept-hazards", "all")
	h.start("server", "serve", "0.0.0.0:8080")
	before := h.counted()
	h.ask("server")
	if after := h.counted(); after <= before {
		t.Errorf("redirected are %v, before %v\n%s", after, before, h.slices())
	}
	h.run("podman", "rm", "--force", "--time", "0", "--all")
	h.start("again", "serve", "0.0.0.0:8080")
	before = h.counted()
	h.ask("again")
	if h.counted() <= before {
		t.Errorf("nothing was redirected after all containers had gone once\n%s", h.slices())
	}
	h.run(h.remove...)
	if h.exists("/sys/fs/bpf/sockmap") {
		t.Error("the programs are left after the removal")
	}
	h.run("podman", "exec", "again", "/talk", "ask", "127.0.0.1:8080")
}

// slices shows the cgroups of the machine's processes, those that sockmap has a link at, and what became of
// the connections there.
func (h *host) slices() string {
	h.Helper()
	return h.run("systemd-cgls", "--no-pager") + h.run("sh", "-c", "ls /sys/fs/bpf/sockmap/v*/links") +
		h.run("find", "/sys/fs/cgroup", "-name", "machine.slice", "-printf", "%i %p\n") +
		h.run("sockmapctl", "metrics", "--per-pod=false") + h.run("sockmapctl", "status")
}

// counted is the number of bytes redirected between containers that are not registered.
func (h *host) counted() float64 {
	h.Helper()
	for line := range strings.Lines(h.run("sockmapctl", "metrics", "--per-pod=false")) {
		if strings.HasPrefix(line, "sockmap_redirected_bytes_total") {
			_, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				h.Fatal(err)
			}
			return n
		}
	}
	h.Fatal("redirected bytes are not counted")
	return 0
}

// nerdctlList is nerdctl's default network, as nerdctl 2 writes it.
const nerdctlList = `{
  "cniVersion": "1.0.0",
  "name": "bridge",
  "nerdctlID": "17f29b073143d8cd97b5bbe492bdeffec1c5fee55cc1fe2112c8b9335f8b6121",
  "nerdctlLabels": {
    "nerdctl/default-network": "true"
  },
  "plugins": [
    {
      "type": "bridge",
      "bridge": "nerdctl0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "ranges": [[{ "gateway": "10.4.0.1", "subnet": "10.4.0.0/24" }]],
        "routes": [{ "dst": "0.0.0.0/0" }],
        "type": "host-local"
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } },
    { "type": "firewall", "ingressPolicy": "same-bridge" },
    { "type": "tuning" }
  ]
}`

// What docs/hosts/NERDCTL.md describes, as far as it works without nerdctl: its network, the real containerd,
// and ctr, which uses the same library.
func TestContainersOfContainerdInTheNetworkOfNerdctl(t *testing.T) {
	const path, below = "/etc/cni/net.d/nerdctl-bridge.conflist", "/etc/cni/net.d/default/nerdctl-shop.conflist"
	h := newHost(t, managers[0])
	h.put(h.install, older)
	h.run("rm", list)
	h.write(path, nerdctlList)
	h.run("mkdir", "-p", filepath.Dir(below), "/opt/cni")
	h.run("cp", "-r", "/usr/lib/cni", "/opt/cni/bin")
	shop := strings.Replace(strings.Replace(nerdctlList, `"name": "bridge"`, `"name": "shop"`, 1), "nerdctl0",
		"shop0", 1)
	h.write(below, shop)
	h.write(config, "cni-conf-name: nerdctl-bridge.conflist\nentry:\n  acceptHazards: [all]\n")
	h.run("systemctl", "enable", "--now", unit)
	h.until("the agent has chained", func() bool { return strings.Contains(h.read(path), `"sockmap"`) })
	h.run("sockmapctl", "install", "--config-file", config, "--cni-conf-dir", filepath.Dir(below),
		"--cni-conf-name", filepath.Base(below))

	h.ctr("--detach", "server", "serve", "0.0.0.0:8080")
	before := h.redirected()
	out := h.ctr("--rm", "client", "ask", "10.4.0.2:8080")
	if !strings.Contains(out, "ok ") || h.redirected() <= before {
		t.Errorf("the client printed %q\n%s", out, h.run("sockmapctl", "attachments"))
	}
	h.run(h.remove...)
	if h.read(path) != nerdctlList || h.read(below) != shop {
		t.Error("a list is not as it was")
	}
	if out := h.ctr("--rm", "late", "ask", "10.4.0.2:8080"); !strings.Contains(out, "ok ") {
		t.Errorf("after the removal: %q", out)
	}
	h.run("ctr", "tasks", "kill", "--signal", "9", "server")
}

// ctr runs a container. The cgroups of this machine may have no controller for shares.
func (h *host) ctr(flag, name string, args ...string) string {
	h.Helper()
	all := []string{"ctr", "run", "--cni", "--cpu-shares", "0", flag, "--rootfs", "/srv/talk", name, "/talk"}
	return h.run(append(all, args...)...)
}
