// SPDX-License-Identifier: Apache-2.0

package place

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/cniconf"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard"
	"github.com/sockmap-cni/sockmap-cni/pkg/hazard/probe"
)

// settings are the settings of the loopback site's data path. The bounds are those of the shipped
// configuration.
func settings(o Options) datapath.Settings {
	s := datapath.Settings{
		MaxSockets: 4096, MaxBacklogBytes: cniconf.DefaultMaxBacklogBytes,
		MaxBacklogMessages: cniconf.DefaultMaxBacklogMessages, Version: "conformance",
		NATRefreshSeconds: cniconf.DefaultNATRefreshSeconds, Probe: probe.AtLoad,
	}
	if !o.Guards {
		s.WithoutGuards = datapath.Guards[:]
	}
	return s
}

// loopbackSite needs only a kernel, a cgroup2 mount and root, so it runs in a virtual machine's initramfs.
type loopbackSite struct {
	tmp     string // contains the bpffs
	state   string
	counter counter
	groups  [2]*group // plain, accelerated
}

// openLoopback makes the site whose places are one network namespace each, with both ends on its loopback
// interface.
func openLoopback(_ context.Context, _ string, o Options) (_ Site, err error) {
	s := &loopbackSite{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for i, kind := range []string{"plain", "accelerated"} {
		if s.groups[i], err = newGroup(kind); err != nil {
			return nil, err
		}
	}
	if err := s.mountBPF(); err != nil {
		return nil, err
	}
	if s.counter.d, err = datapath.Load(s.state, settings(o)); err != nil {
		return nil, err
	}
	refused, err := s.refused(o)
	if err != nil || refused {
		return s, err
	}
	key := datapath.LinkKey{CgroupID: s.groups[1].id, Manual: true}
	if _, err := s.counter.d.Attach(s.groups[1].dir, key); err != nil {
		return nil, err
	}
	return s, nil
}

// refused decides as the plugin does by default: nothing is accelerated on a kernel with a severe hazard that
// no guard cures.
func (s *loopbackSite) refused(o Options) (bool, error) {
	now, err := s.counter.d.Config()
	if err != nil {
		return false, err
	}
	left := hazard.Set(now.Hazards &^ now.Guarded).Severe()
	if o.AcceptHazards || left == 0 {
		return false, nil
	}
	if o.Log != nil {
		fmt.Fprintf(o.Log, "nothing is accelerated: this kernel has %s\n", left)
	}
	return true, nil
}

func (s *loopbackSite) mountBPF() error {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := unix.Mount("conformance", dir, "bpf", 0, ""); err != nil {
		return errors.Join(fmt.Errorf("mount bpffs: %w", err), os.Remove(dir))
	}
	s.tmp = dir
	s.state = filepath.Join(dir, "sockmap")
	if err := os.Mkdir(s.state, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	return nil
}

func (s *loopbackSite) Name() string { return "loopback" }

func (s *loopbackSite) Guards() ([]string, error) { return s.counter.guards() }

func (s *loopbackSite) Place(_ context.Context, accelerated bool) (_ Place, err error) {
	p := &loopbackPlace{group: s.groups[0]}
	if accelerated {
		p.group, p.counter = s.groups[1], &s.counter
	}
	p.maker, err = startMaker(func(cmd *exec.Cmd) error {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
		return p.group.start(cmd)
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.cookie, err = p.maker.cookie(); err != nil || !accelerated {
		return p, err
	}
	// The namespace is registered although the link accepts every namespace, so that each place has its own
	// sums.
	s.counter.mu.Lock()
	defer s.counter.mu.Unlock()
	return p, s.counter.d.SetEndpoint(p.cookie, datapath.Policy{Accelerate: true, Peers: datapath.PeersNode})
}

func (s *loopbackSite) Close() error {
	var errs []error
	if s.counter.d != nil {
		errs = append(errs, datapath.Unload(s.state, true), s.counter.d.Close())
	}
	if s.tmp != "" {
		errs = append(errs, unix.Unmount(s.tmp, unix.MNT_DETACH), os.Remove(s.tmp))
	}
	for _, g := range s.groups {
		if g != nil {
			errs = append(errs, g.Close())
		}
	}
	return errors.Join(errs...)
}

type loopbackPlace struct {
	group   *group
	maker   *Maker
	cookie  uint64
	counter *counter // nil on plain TCP
}

func (p *loopbackPlace) Socket(_ Side, domain, typ, proto int) (int, error) {
	return p.maker.Socket(domain, typ, proto)
}

func (p *loopbackPlace) Addr(Side) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func (p *loopbackPlace) Target(port uint16) (netip.AddrPort, error) {
	return netip.AddrPortFrom(p.Addr(Server), port), nil
}

func (p *loopbackPlace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second // for children that hold its output open
	return cmd
}

func (p *loopbackPlace) Start(_ Side, cmd *exec.Cmd) error {
	return inNetNSOf(p.maker.cmd.Process.Pid, func() error { return p.group.start(cmd) })
}

func (p *loopbackPlace) Steer(f func(*datapath.Datapath, uint64) error) error {
	return p.counter.steer(p.cookie, f)
}

func (p *loopbackPlace) Carried() (Bytes, error) {
	if p.counter == nil {
		return Bytes{}, nil
	}
	return p.counter.carried(map[uint64]string{p.cookie: fmt.Sprintf("/proc/%d/ns/net",
		p.maker.cmd.Process.Pid)})
}

func (p *loopbackPlace) Close() error {
	if p.counter != nil {
		p.counter.mu.Lock()
		defer p.counter.mu.Unlock()
		if err := p.counter.d.DeleteEndpoint(p.cookie); err != nil {
			return errors.Join(err, p.maker.Close())
		}
	}
	return p.maker.Close()
}

// group is a cgroup for one kind of places.
type group struct {
	dir *os.File
	id  uint64
}

func newGroup(kind string) (*group, error) {
	mount, err := cgroup2Mount()
	if err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(mount, "conformance-"+kind+"-")
	if err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open cgroup: %w", err), os.Remove(path))
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("read id of cgroup: %w", err), dir.Close(), os.Remove(path))
	}
	return &group{dir: dir, id: st.Ino}, nil
}

// cgroup2Mount reads where a cgroup2 file system is mounted for this process.
func cgroup2Mount() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("list mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("find cgroup2: it is not mounted (mount -t cgroup2 cgroup2 DIR)")
}

// start starts cmd in the cgroup: if it were moved there later, it could have made sockets before.
func (g *group) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(g.dir.Fd())
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return nil
}

// Close removes the cgroup once its last process has been reaped by the kernel.
func (g *group) Close() (err error) {
	path := g.dir.Name()
	g.dir.Close()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = os.Remove(path); err == nil {
			return nil
		}
	}
	return fmt.Errorf("remove cgroup: %w", err)
}
