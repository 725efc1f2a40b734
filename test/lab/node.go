// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Prefix is what the IDs of all nodes begin with, followed by Options.Name.
const Prefix = "sockmap-lab-"

// runDir is where nodes keep their files, each in a directory named by its ID.
const runDir = "/run"

// Options are for NewNode. The zero value makes a node without plugins.
type Options struct {
	// Name becomes a part of the ID, by which Residue and Reap select nodes. It has letters, digits and
	// hyphens. Residue and Reap cannot distinguish a name from a longer one that begins with it.
	Name string
	// BinDir has the CNI plugins and the traffic program; see BuildPlugins.
	BinDir string
	// BPFFS is the directory for sockmap's pins. If it is empty, the node
	// mounts a bpffs of its own, which goes with it.
	BPFFS string
	// PluginsHere runs plugins in the cgroup of this process, as runtimes do. It is for measurements, because
	// a start in another cgroup costs milliseconds. No sockets may be made in pods meanwhile.
	PluginsHere bool
	// Ran is called after each run of a plugin, for measurements, with the plugin's type, the verb, and the
	// time from before its process was made to its end. Several goroutines may call it at once. It may be
	// nil.
	Ran func(plugin, verb string, took time.Duration)
	// Log gets the standard error of the plugins.
	Log io.Writer
}

// A Node is in the role of a host: its Place is the host's network namespace.
type Node struct {
	Place
	id     string
	dir    string
	cgroup string // contains the cgroups of the node
	bpffs  string
	cni    *libcni.CNIConfig
	exec   *runtimeExec
	lock   *os.File // held while the node is in use: Reap checks it
	ownBPF bool

	closing sync.Mutex     // one Close at a time
	making  sync.WaitGroup // calls of NewPod, added to under mu

	mu      sync.Mutex // guards the fields below
	closed  bool
	pods    []*Pod
	hosts   []*Host
	cgroups map[string]int // number of pods in each pod cgroup
	natted  map[string]bool
}

// The node's own addresses, on its loopback interface, which every kernel has.
var (
	nodeIP4 = netip.MustParseAddr("192.0.2.1")
	nodeIP6 = netip.MustParseAddr("2001:db8::1")
)

var nameFormat = regexp.MustCompile(`^[a-zA-Z0-9-]*$`)

// NewNode makes a node. The caller closes it.
func NewNode(ctx context.Context, o Options) (_ *Node, err error) {
	if !nameFormat.MatchString(o.Name) {
		return nil, fmt.Errorf("make node %q: a name has letters, digits and hyphens only", o.Name)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("make node: %w", err)
	}
	mount, err := cgroup2Mount()
	if err != nil {
		return nil, err
	}
	dir, lock, err := makeDir(o.Name)
	if err != nil {
		return nil, err
	}
	n := &Node{
		id: filepath.Base(dir), dir: dir, lock: lock, bpffs: o.BPFFS,
		cgroups: map[string]int{}, natted: map[string]bool{},
	}
	n.cgroup = filepath.Join(mount, n.id)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err := n.makeDirs(); err != nil {
		return nil, err
	}
	if n.bpffs == "" {
		if err := n.mountBPF(); err != nil {
			return nil, err
		}
	}
	n.Place, err = newPlace(filepath.Join(dir, "netns", "node"), setUpNode)
	n.procs = filepath.Join(n.cgroup, "host")
	n.bin = o.BinDir
	n.exec = &runtimeExec{cgroup: filepath.Join(n.cgroup, "runtime"), here: o.PluginsHere, ran: o.Ran,
		log: &syncWriter{w: o.Log}}
	n.cni = libcni.NewCNIConfigWithCacheDir([]string{o.BinDir}, filepath.Join(dir, "cni"), n.exec)
	return n, err
}

// makeDir makes the directory of a node and locks it, so that Reap knows that the node is in use. Before it
// is locked, Reap may remove it again.
func makeDir(name string) (dir string, lock *os.File, err error) {
	for range 10 {
		if dir, err = os.MkdirTemp(runDir, Prefix+name+"-"); err != nil {
			return "", nil, fmt.Errorf("make directory of node: %w", err)
		}
		if lock, err = lockNode(dir); err == nil {
			return dir, lock, nil
		}
	}
	return "", nil, err
}

// lockNode fails if dir is locked by another process, or was removed before it was locked.
func lockNode(dir string) (_ *os.File, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open directory of node: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock directory of node: %w", err)
	}
	locked, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at directory of node: %w", err)
	}
	there, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("look at directory of node: %w", err)
	}
	if !os.SameFile(locked, there) {
		return nil, fmt.Errorf("lock directory of node: %w", os.ErrNotExist)
	}
	return f, nil
}

func (n *Node) makeDirs() error {
	for _, d := range []string{
		filepath.Join(n.dir, "netns"), filepath.Join(n.dir, "cni"), filepath.Join(n.dir, "ipam"),
		filepath.Join(n.cgroup, "host"), filepath.Join(n.cgroup, "runtime"),
	} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

func (n *Node) mountBPF() error {
	fs := filepath.Join(n.dir, "bpf")
	if err := os.Mkdir(fs, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := unix.Mount(n.id, fs, "bpf", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount bpffs on %s: %w", fs, err)
	}
	n.ownBPF = true
	// sockmap does not get the mount point itself, because it makes and removes its directory.
	n.bpffs = filepath.Join(fs, "sockmap")
	return nil
}

// setUpNode enables forwarding in the calling thread's network namespace, as on a host with containers.
func setUpNode() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	for _, ip := range []netip.Addr{nodeIP4, nodeIP6} {
		if err := addAddr(lo, netip.PrefixFrom(ip, ip.BitLen())); err != nil {
			return err
		}
	}
	return sysctls(map[string]string{
		"net/ipv4/ip_forward":             "1",
		"net/ipv6/conf/all/forwarding":    "1",
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
	})
}

// ID names everything that belongs to the node.
func (n *Node) ID() string { return n.id }

// Dir is the node's own directory. Close removes it.
func (n *Node) Dir() string { return n.dir }

// BPFFS is the directory for sockmap's pins. It may not exist yet.
func (n *Node) BPFFS() string { return n.bpffs }

// CgroupPath is the directory of the cgroup that contains all cgroups of the node.
func (n *Node) CgroupPath() string { return n.cgroup }

// IPs are the node's own addresses, IPv4 first. Pods and hosts reach them.
func (n *Node) IPs() []netip.Addr { return []netip.Addr{nodeIP4, nodeIP6} }

// teardown bounds the DEL of each pod in Close.
const teardown = 20 * time.Second

// Close deletes the pods and removes everything that belongs to the node. Any goroutine may call it, more
// than once, and also when the context of NewNode has ended. It waits for calls of NewPod, which end with
// their own contexts.
func (n *Node) Close() error {
	n.closing.Lock()
	defer n.closing.Unlock()
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.making.Wait()
	n.mu.Lock()
	pods, hosts := slices.Clone(n.pods), slices.Clone(n.hosts)
	n.mu.Unlock()

	var errs []error
	for _, p := range slices.Backward(pods) {
		ctx, cancel := context.WithTimeout(context.Background(), teardown)
		errs = append(errs, p.Delete(ctx))
		cancel()
	}
	for _, h := range hosts {
		errs = append(errs, h.Close())
	}
	errs = append(errs, removeCgroup(n.cgroup))
	if n.ownBPF {
		errs = append(errs, unmount(filepath.Dir(n.bpffs)))
	}
	errs = append(errs, n.removeDir())
	return errors.Join(errs...)
}

// removeDir comes last: Residue and Reap find the rest by the directory.
func (n *Node) removeDir() error {
	if n.netns != "" {
		if err := dropNetNS(n.netns); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(n.dir); err != nil {
		return fmt.Errorf("remove directory of node: %w", err)
	}
	if n.lock != nil {
		_ = n.lock.Close()
		n.lock = nil
	}
	return nil
}

// syncWriter serializes the messages of concurrent plugins. A nil w discards them.
type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(b []byte) (int, error) {
	if s.w == nil {
		return len(b), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}
