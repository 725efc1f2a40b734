// SPDX-License-Identifier: Apache-2.0

// Package pods makes pairs of containers on one node, with the conflist of conf/, with and without sockmap in
// the chain. The benchmarks compare such pairs.
package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/filter"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// Pair is a client and a server container of one network.
type Pair struct {
	Client, Server *lab.Pod
	Conflist       []byte
}

// Node builds the plugins and makes a node with them, as NodeOf does.
func Node(ctx context.Context, log io.Writer) (*lab.Node, error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(root, ".cache", "lab")
	if err := lab.BuildPlugins(ctx, bin); err != nil {
		return nil, err
	}
	return NodeOf(ctx, bin, log)
}

// NodeOf makes a node with the plugins that are in bin: a guest has no compiler. The caller closes the node.
func NodeOf(ctx context.Context, bin string, log io.Writer) (*lab.Node, error) {
	if bin == "" {
		return Node(ctx, log)
	}
	return lab.NewNode(ctx, lab.Options{Name: NodeName(), BinDir: bin, Log: log})
}

// Network is a conflist for node. index distinguishes its subnet and bridge from those of other networks.
// chained adds sockmap to the chain, with these keys in its entry.
func Network(node *lab.Node, name string, index byte, chained bool, keys ...map[string]any) ([]byte, error) {
	// No benchmark does anything that a hazard spoils, and kernels that refuse tracing programs are measured,
	// too.
	entry := map[string]any{"acceptHazards": []string{"all"}}
	for _, k := range keys {
		maps.Copy(entry, k)
	}
	w := lab.Network{
		Name:    name,
		Bridge:  "br-" + name,
		Subnets: []netip.Prefix{subnet(index)},
		Set:     map[string]map[string]any{"sockmap": entry},
	}
	if !chained {
		w.Without = []string{"sockmap"}
	}
	return node.Conflist(w)
}

func subnet(index byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 63, index, 0}), 24)
}

// New makes the network, as Network does, and two containers in it. The lab turns masquerading by the plugin
// bridge off, as it needs iptables; New masquerades instead.
func New(ctx context.Context, node *lab.Node, name string, index byte, chained bool,
	keys ...map[string]any) (p *Pair, err error) {
	p = &Pair{}
	if p.Conflist, err = Network(node, name, index, chained, keys...); err != nil {
		return nil, err
	}
	for role, pod := range map[string]**lab.Pod{"client": &p.Client, "server": &p.Server} {
		spec := lab.PodSpec{Namespace: "bench", Name: name + "-" + role, Conflist: p.Conflist}
		if *pod, err = node.NewPod(ctx, spec); err != nil {
			return nil, fmt.Errorf("container %s-%s: %w", name, role, err)
		}
	}
	return p, Masquerade(node, name, subnet(index), p.Client, p.Server)
}

// Masquerade does for these containers what ipMasq of the shipped conflist does, because plain TCP passes
// these rules in production.
func Masquerade(node *lab.Node, name string, network netip.Prefix, containers ...*lab.Pod) error {
	var addrs []netip.Addr
	for _, c := range containers {
		addrs = append(addrs, c.IP4())
	}
	return node.Do(func() error { return filter.Masquerade("masquerade-"+name, network, addrs...) })
}

// Sent counts the bytes that sockets of these containers have sent so far; it includes closed and live
// sockets.
type Sent struct{ Redirected, TCP uint64 }

// Since is the difference to an earlier count.
func (s Sent) Since(before Sent) Sent {
	return Sent{s.Redirected - before.Redirected, s.TCP - before.TCP}
}

// Share is the part of the bytes that was redirected.
func (s Sent) Share() float64 {
	return float64(s.Redirected) / max(1, float64(s.Redirected+s.TCP))
}

// Sent reads the data path's counts for the pair. They are zero for a pair without sockmap.
func (p *Pair) Sent(node *lab.Node) (sum Sent, err error) {
	d, err := datapath.Open(node.BPFFS())
	if errors.Is(err, datapath.ErrNotLoaded) {
		return sum, nil
	}
	if err != nil {
		return sum, err
	}
	defer d.Close()
	totals, err := d.Totals()
	if err != nil {
		return sum, err
	}
	ours := map[uint64]bool{p.Client.NetNSCookie(): true, p.Server.NetNSCookie(): true}
	for cookie, t := range totals {
		if ours[cookie] {
			sum.Redirected += t.RedirectedBytes
			sum.TCP += t.TCPBytes
		}
	}
	err = d.FlowsIn([]string{p.Client.NetNS(), p.Server.NetNS()}, func(f datapath.Flow) bool {
		sum.Redirected += f.RedirectedBytes
		sum.TCP += f.TCPBytes
		return true
	})
	return sum, err
}

// Settled is Sent after the sockets that were just closed are counted as closed: for a moment they may be
// counted neither as closed nor as live. It reads again until nothing changes, for at most a fifth of a
// second.
func (p *Pair) Settled(node *lab.Node) (sum Sent, err error) {
	var last Sent
	for i := range 20 {
		if sum, err = p.Sent(node); err != nil || i > 0 && sum == last {
			return sum, err
		}
		last = sum
		time.Sleep(10 * time.Millisecond)
	}
	return sum, nil
}

// Guards returns the guards that run on the node.
func Guards(node *lab.Node) (names []string, err error) {
	d, err := datapath.Open(node.BPFFS())
	if err != nil {
		return nil, err
	}
	defer d.Close()
	states, err := d.GuardStates()
	for _, s := range states {
		if s.Active {
			names = append(names, s.Name)
		}
	}
	return names, err
}
