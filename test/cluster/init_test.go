// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The node.
const nodeName = "node1"

var nodeIP = netip.MustParsePrefix("192.0.2.10/24")

// nodeDir contains the files of the node.
func nodeDir() string { return filepath.Join(tools.cache, "node") }

// own are directories of the node without content of this machine. They are bind mounts of the disk one by
// one: a kubelet measures the file system of these directories, and image layers cannot be on an overlay.
var own = []string{
	"/etc/cni", "/etc/containerd", confDir, "/opt/cni",
	"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/lib/etcd", "/var/log/pods",
}

// overlaid are directories with the content of this machine, to which the node writes its own files.
var overlaid = []string{"/etc", "/opt", "/var"}

func nodeDirs() (dirs []string) {
	for _, dir := range overlaid {
		dirs = append(dirs, nodeDir()+"/upper"+dir, nodeDir()+"/work"+dir)
	}
	for _, dir := range own {
		dirs = append(dirs, nodeDir()+"/own"+dir)
	}
	return dirs
}

// asInit makes the node, and is its process 1 from then on: it waits for every process without a parent, such
// as the shims' children, because containerd waits until they are gone.
func asInit() (code int, err error) {
	if err := findTools(); err != nil {
		return 1, err
	}
	if err := errors.Join(mountNode(), connectNode(), unix.Sethostname([]byte(nodeName))); err != nil {
		return 1, fmt.Errorf("make the node: %w", err)
	}
	if err := os.Setenv(roleVariable, roleNode); err != nil {
		return 1, err
	}
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL},
	})
	if err != nil {
		return 1, fmt.Errorf("start the tests: %w", err)
	}
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 1, fmt.Errorf("wait for the tests: %w", err)
		case ended == pid && status.Signaled():
			return 1, fmt.Errorf("the tests were ended by a signal: %v", status.Signal())
		case ended == pid:
			return status.ExitStatus(), nil
		}
	}
}

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func (m mount) make() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

// mountNode mounts the node's files. All else belongs to this machine: programs, libraries, cgroups.
func mountNode() error {
	// First, so that the next mounts are not visible outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	mounts := []mount{{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}}
	for _, dir := range overlaid {
		data := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper%s,workdir=%s/work%s", dir, nodeDir(), dir, nodeDir(),
			dir)
		mounts = append(mounts, mount{"overlay", dir, "overlay", 0, data})
	}
	for _, dir := range own {
		mounts = append(mounts, mount{nodeDir() + "/own" + dir, dir, "", unix.MS_BIND, ""})
	}
	mounts = append(mounts, runMount, bpffsMount)
	for _, m := range mounts {
		if err := m.make(); err != nil {
			return err
		}
	}
	if err := standInSysctls(); err != nil {
		return err
	}
	// As systemd does: pods see mounts that the node makes after they have started.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	return nil
}

// The directories that a reboot empties.
var (
	runMount   = mount{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"}
	bpffsMount = mount{"bpf", "/sys/fs/bpf", "bpf", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=0700"}
)

// standInSysctls mounts files over the sysctls that the kubelet would write for the whole machine. They
// contain the values that it wants.
func standInSysctls() error {
	dir := nodeDir() + "/sysctl"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, "/proc/sys/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("put a file in the place of %s: %w", name, err)
		}
	}
	return nil
}

// connectNode gives the node an address, and a default route that leads nowhere: programs connect to service
// addresses only if there is a route to them, before they are translated.
func connectNode() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	// Its other end has no address, so no packet gets a reply. (Not every kernel has dummy interfaces.)
	eth0 := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "nowhere"}
	if err := netlink.LinkAdd(eth0); err != nil {
		return fmt.Errorf("make interface: %w", err)
	}
	nowhere, err := netlink.LinkByName("nowhere")
	if err != nil {
		return fmt.Errorf("find interface: %w", err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: nodeIP.Addr().AsSlice(),
		Mask: net.CIDRMask(nodeIP.Bits(), 32)}}
	if err := netlink.AddrAdd(eth0, address); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	for _, link := range []netlink.Link{lo, eth0, nowhere} {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", link.Attrs().Name, err)
		}
	}
	everywhere := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Index, Dst: everywhere}); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	// The sysctls that kubeadm requires before it sets up a node. They belong to the network namespace.
	for _, name := range []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"} {
		if err := os.WriteFile("/proc/sys/"+name, []byte("1"), 0); err != nil {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return nil
}
