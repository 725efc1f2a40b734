// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Kernel has the properties of this node's kernel that matter to the data path.
type Kernel struct {
	Release  string            `json:"release"`
	Version  string            `json:"version"`
	Machine  string            `json:"machine"`
	LSM      string            `json:"lsm"`
	Lockdown string            `json:"lockdown"`
	BTF      bool              `json:"btf"`
	Cgroups  string            `json:"cgroups"` // unified, hybrid, legacy or none
	Mounts   []Mount           `json:"mounts"`
	Config   map[string]string `json:"config"`  // what is not in it is not set
	Sysctls  map[string]string `json:"sysctls"` // that exist
}

// Mount is one of bpffs or of cgroups.
type Mount struct {
	Path    string `json:"path"`
	Type    string `json:"type"`
	Options string `json:"options"`
}

// options of the kernel's configuration that decide which programs can be loaded, and how sockets behave.
var options = []string{
	"BPF_SYSCALL", "BPF_JIT", "BPF_JIT_ALWAYS_ON", "BPF_UNPRIV_DEFAULT_OFF", "BPF_STREAM_PARSER", "BPF_LSM",
	"BPF_EVENTS", "CGROUP_BPF",
	"CGROUPS", "MEMCG", "DEBUG_INFO_BTF", "DEBUG_INFO_BTF_MODULES", "NET_SOCK_MSG", "SOCK_CGROUP_DATA", "TLS",
	"MPTCP", "INET_MPTCP_DIAG",
	"FUNCTION_TRACER", "DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "DYNAMIC_FTRACE_WITH_ARGS", "FPROBE", "KPROBES",
	"BPF_KPROBE_OVERRIDE",
	"FUNCTION_ERROR_INJECTION", "SECURITY", "SECURITY_NETWORK", "SECURITY_LOCKDOWN_LSM", "SECURITY_SELINUX",
	"SECURITY_APPARMOR", "LSM",
	"PREEMPT", "PREEMPT_DYNAMIC", "PREEMPT_RT", "PREEMPT_VOLUNTARY", "NAMESPACES", "NET_NS", "USER_NS",
	"NF_CONNTRACK", "IO_URING",
	"PAGE_SIZE_4KB", "ARM64_16K_PAGES", "ARM64_64K_PAGES", "HZ",
}

var sysctls = []string{
	"kernel/unprivileged_bpf_disabled", "kernel/bpf_stats_enabled", "kernel/kptr_restrict", "kernel/tainted",
	"net/core/bpf_jit_enable",
	"net/core/bpf_jit_harden", "net/core/bpf_jit_limit", "net/core/rmem_max", "net/core/wmem_max",
	"net/ipv4/tcp_mem", "net/ipv4/tcp_rmem",
	"net/ipv4/tcp_wmem", "net/ipv4/tcp_fastopen", "net/ipv4/tcp_congestion_control", "net/mptcp/enabled",
	"net/netfilter/nf_conntrack_helper", "net/netfilter/nf_conntrack_tcp_timeout_established",
	"vm/overcommit_memory",
}

// ReadKernel reads files below root ("/" for this machine). A field that cannot be read stays empty, and the
// error joins all failures.
func ReadKernel(root string) (*Kernel, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	// The whole of uname would include the name of the node.
	k := &Kernel{
		Release: unix.ByteSliceToString(name.Release[:]), Version: unix.ByteSliceToString(name.Version[:]),
		Machine: unix.ByteSliceToString(name.Machine[:]), Mounts: []Mount{}, Config: map[string]string{},
		Sysctls: map[string]string{},
	}
	k.LSM, _ = readLine(filepath.Join(root, "sys/kernel/security/lsm"))
	k.Lockdown, _ = readLine(filepath.Join(root, "sys/kernel/security/lockdown"))
	_, err := os.Stat(filepath.Join(root, "sys/kernel/btf/vmlinux"))
	k.BTF = err == nil
	for _, key := range sysctls {
		if value, err := readLine(filepath.Join(root, "proc/sys", key)); err == nil {
			k.Sysctls[strings.ReplaceAll(key, "/", ".")] = value
		}
	}
	return k, errors.Join(k.readMounts(filepath.Join(root, "proc/self/mountinfo")), k.readConfig(root))
}

func readLine(path string) (string, error) {
	content, err := os.ReadFile(path)
	return strings.Join(strings.Fields(string(content)), " "), err
}

func (k *Kernel) readMounts(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	all, err := mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("bpf", "cgroup", "cgroup2"))
	if err != nil {
		return err
	}
	types := map[string]bool{}
	for _, m := range all {
		types[m.FSType] = true
		k.Mounts = append(k.Mounts, Mount{m.Mountpoint, m.FSType, m.Options + "," + m.VFSOptions})
	}
	switch {
	case types["cgroup"] && types["cgroup2"]:
		k.Cgroups = "hybrid"
	case types["cgroup2"]:
		k.Cgroups = "unified"
	case types["cgroup"]:
		k.Cgroups = "legacy"
	default:
		k.Cgroups = "none"
	}
	return nil
}

// readConfig reads the first file that exists of those where distributions keep the configuration.
func (k *Kernel) readConfig(root string) error {
	places := []string{"boot/config-" + k.Release, "lib/modules/" + k.Release + "/config", "proc/config.gz"}
	for _, place := range places {
		err := k.readConfigFrom(filepath.Join(root, place))
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("the kernel's configuration is in none of /%s", strings.Join(places, ", /"))
}

func (k *Kernel) readConfigFrom(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			return err
		}
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if name, is := strings.CutPrefix(key, "CONFIG_"); ok && is && slices.Contains(options, name) {
			k.Config[name] = strings.Trim(value, `"`)
		}
	}
	return lines.Err()
}
