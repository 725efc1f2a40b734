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
	"sync"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// podSite makes its ends as in production: pods for which libcni calls ADD of a network, with and without
// sockmap in its list.
type podSite struct {
	kind        string
	node        *lab.Node
	plain, fast []byte // conflists
	counter     counter

	mu     sync.Mutex // guards the fields below
	places int
}

// The addresses of the pods, and of the services.
var (
	podSubnets  = []netip.Prefix{netip.MustParsePrefix("10.62.0.0/20"), netip.MustParsePrefix("fd00:62::/64")}
	serviceBase = netip.MustParseAddr("10.96.0.0")
)

func openPods(ctx context.Context, kind string, o Options) (_ Site, err error) {
	bin := o.BinDir
	if bin == "" {
		root, err := lab.RepoRoot()
		if err != nil {
			return nil, err
		}
		bin = filepath.Join(root, ".cache", "lab")
		if err := lab.BuildPlugins(ctx, bin); err != nil {
			return nil, err
		}
	}
	name := fmt.Sprintf("conformance%d", os.Getpid())
	node, err := lab.NewNode(ctx, lab.Options{Name: name, BinDir: bin, Log: o.Log})
	if err != nil {
		return nil, err
	}
	s := &podSite{kind: kind, node: node}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.plain, err = node.Conflist(lab.Network{Subnets: podSubnets, Without: []string{"sockmap"}})
	if err != nil {
		return nil, err
	}
	s.fast, err = node.Conflist(lab.Network{Subnets: podSubnets,
		Set: map[string]map[string]any{"sockmap": sockmapKeys(o)}})
	return s, err
}

// sockmapKeys is the plugin's configuration.
func sockmapKeys(o Options) map[string]any {
	keys := map[string]any{"logLevel": "warn"}
	if !o.Guards {
		keys["guards"] = []string{}
	}
	if o.AcceptHazards {
		keys["acceptHazards"] = []string{"all"}
		// With these keys, a pod that would not be accelerated is an error of the run.
		keys["required"] = true
	}
	return keys
}

func (s *podSite) Name() string { return s.kind }

func (s *podSite) Guards() ([]string, error) { return s.counter.guards() }

func (s *podSite) Place(ctx context.Context, accelerated bool) (_ Place, err error) {
	p := &pods{site: s, services: map[uint16]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	conflist := s.plain
	if accelerated {
		conflist = s.fast
	}
	ends := 2
	if s.kind == "pod" {
		ends = 1
	}
	for range ends {
		if err := p.addPod(ctx, conflist); err != nil {
			return nil, err
		}
	}
	p.vip = s.nextService()
	if !accelerated {
		return p, nil
	}
	p.counter = &s.counter
	return p, s.open()
}

// open opens the state that the first ADD has loaded. If the plugin declines the kernel, there may be none.
func (s *podSite) open() error {
	s.counter.mu.Lock()
	defer s.counter.mu.Unlock()
	if s.counter.d != nil {
		return nil
	}
	d, err := datapath.Open(s.node.BPFFS())
	if errors.Is(err, datapath.ErrNotLoaded) {
		return nil
	}
	s.counter.d = d
	return err
}

// nextService returns an address that no other place uses.
func (s *podSite) nextService() netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places++
	b := serviceBase.As4()
	b[2], b[3] = byte(s.places>>8), byte(s.places)
	return netip.AddrFrom4(b)
}

func (s *podSite) Close() error {
	var errs []error
	if s.counter.d != nil {
		errs = append(errs, s.counter.d.Close())
	}
	return errors.Join(append(errs, s.node.Close())...)
}

// pods is one pod with both ends, or two pods.
type pods struct {
	site    *podSite
	ends    []*lab.Pod
	makers  []*Maker
	counter *counter // nil on plain TCP
	vip     netip.Addr

	mu       sync.Mutex // guards services
	services map[uint16]bool
}

func (p *pods) addPod(ctx context.Context, conflist []byte) error {
	pod, err := p.site.node.NewPod(ctx, lab.PodSpec{Conflist: conflist})
	if err != nil {
		return err
	}
	p.ends = append(p.ends, pod)
	maker, err := startMaker(pod.Start)
	if err != nil {
		return err
	}
	p.makers = append(p.makers, maker)
	return nil
}

// end is the index of a side.
func (p *pods) end(side Side) int { return min(int(side), len(p.ends)-1) }

func (p *pods) Socket(side Side, domain, typ, proto int) (int, error) {
	return p.makers[p.end(side)].Socket(domain, typ, proto)
}

func (p *pods) Addr(side Side) netip.Addr {
	switch p.site.kind {
	case "pod":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case "pods6":
		return p.ends[p.end(side)].IP6()
	default:
		return p.ends[p.end(side)].IP4()
	}
}

func (p *pods) Target(port uint16) (netip.AddrPort, error) {
	direct := netip.AddrPortFrom(p.Addr(Server), port)
	if p.site.kind != "service" {
		return direct, nil
	}
	service := netip.AddrPortFrom(p.vip, port)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.services[port] {
		return service, nil
	}
	p.services[port] = true
	return service, p.site.node.Service(service, direct)
}

func (p *pods) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return p.ends[0].Command(ctx, name, args...)
}

func (p *pods) Start(side Side, cmd *exec.Cmd) error { return p.ends[p.end(side)].Start(cmd) }

func (p *pods) Steer(f func(*datapath.Datapath, uint64) error) error {
	return p.counter.steer(p.ends[p.end(Server)].NetNSCookie(), f)
}

func (p *pods) Carried() (Bytes, error) {
	if p.counter == nil || p.counter.d == nil {
		return Bytes{}, nil
	}
	namespaces := map[uint64]string{}
	for _, pod := range p.ends {
		namespaces[pod.NetNSCookie()] = pod.NetNS()
	}
	return p.counter.carried(namespaces)
}

func (p *pods) Close() error {
	var errs []error
	for _, m := range p.makers {
		errs = append(errs, m.Close())
	}
	for _, pod := range p.ends {
		errs = append(errs, pod.Delete(context.Background()))
	}
	return errors.Join(errs...)
}
