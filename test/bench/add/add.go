// SPDX-License-Identifier: Apache-2.0

// Package add measures what sockmap and other plugins add to an ADD and a DEL. It calls the real plugins
// through libcni, with the chain of conf/ without and with them, in turn in one run.
package add

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// group of all cells.
const Group = "add"

// The variants besides the chain alone, which is result.Plain, and result.Sockmap: reference plugins in place
// of sockmap. Tuning is configured to do nothing, so it shows the cost of an idle plugin. Portmap has nothing
// to do either if the container has no ports.
const (
	Tuning       result.Variant = "tuning"
	Portmap      result.Variant = "portmap"
	PortmapPorts result.Variant = "portmap with a port"
)

// Options of all measurements.
type Options struct {
	BinDir string    // directory of the plugins, see lab.BuildPlugins
	Log    io.Writer // messages of the plugins
	CPU    int       // CPU on which everything runs that is measured alone
}

// chain is one list of plugins, with its own bridge and addresses.
type chain struct {
	variant result.Variant
	plugin  string // the plugin after the bridge; empty: none
	list    []byte
}

// bench is a node with its chains.
type bench struct {
	*lab.Node
	chains []chain
	port   atomic.Int32 // last port of the node that a container got

	mu  sync.Mutex
	ran map[string]time.Duration // time of the last run, by plugin
}

func open(ctx context.Context, o Options) (b *bench, err error) {
	b = &bench{ran: map[string]time.Duration{}}
	b.port.Store(10_000)
	b.Node, err = lab.NewNode(ctx, lab.Options{
		Name: pods.NodeName(), BinDir: o.BinDir, Log: o.Log, PluginsHere: true,
		Ran: func(plugin, verb string, took time.Duration) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.ran[plugin] = took
		},
	})
	if err != nil {
		return nil, err
	}
	for i, c := range []chain{
		{variant: result.Plain},
		{variant: result.Sockmap, plugin: "sockmap"},
		{variant: Tuning, plugin: "tuning"},
		{variant: Portmap, plugin: "portmap"},
		{variant: PortmapPorts, plugin: "portmap"},
	} {
		if c.list, err = b.conflist(c, byte(i)); err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.chains = append(b.chains, c)
	}
	return b, nil
}

func (b *bench) conflist(c chain, index byte) ([]byte, error) {
	n := lab.Network{
		Name: fmt.Sprintf("bench%d", index), Bridge: fmt.Sprintf("bench%d", index),
		Subnets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 62, index * 16, 0}), 20)},
		// Operations that a hazard spoils are not measured here.
		Set: map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	}
	for _, p := range []string{"sockmap", "portmap"} {
		if c.plugin != p {
			n.Without = append(n.Without, p)
		}
	}
	if c.plugin == "tuning" {
		n.Extra = []map[string]any{{"type": "tuning"}}
	}
	return b.Conflist(n)
}

// of returns the chain of a variant.
func (b *bench) of(v result.Variant) chain {
	for _, c := range b.chains {
		if c.variant == v {
			return c
		}
	}
	panic("no chain of " + string(v)) // a variant whose chain is not in open
}

// pod makes a container without a network.
func (b *bench) pod(ctx context.Context, c chain) (*lab.Pod, error) {
	spec := lab.PodSpec{Namespace: "bench"}
	if c.variant == PortmapPorts {
		spec.PortMappings = []lab.PortMapping{{HostPort: int(b.port.Add(1)), ContainerPort: 80, Protocol: "tcp"}}
	}
	return b.NewPod(ctx, spec)
}

// add times one ADD: of the whole chain, and of the plugin after the bridge. The time to make the pod's
// namespace and cgroup does not count.
func (b *bench) add(ctx context.Context, c chain, p *lab.Pod) (all, plugin time.Duration, err error) {
	start := time.Now()
	_, err = b.ADD(ctx, c.list, p)
	return time.Since(start), b.last(c.plugin), err
}

// del is the counterpart of add.
func (b *bench) del(ctx context.Context, c chain, p *lab.Pod) (all, plugin time.Duration, err error) {
	start := time.Now()
	err = b.DEL(ctx, c.list, p)
	return time.Since(start), b.last(c.plugin), err
}

func (b *bench) last(plugin string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ran[plugin]
}

// warm makes each chain's bridge, and loads the programs.
func (b *bench) warm(ctx context.Context) error {
	for _, c := range b.chains {
		p, err := b.pod(ctx, c)
		if err != nil {
			return err
		}
		if _, _, err := b.add(ctx, c, p); err != nil {
			return err
		}
		if err := p.Delete(ctx); err != nil {
			return err
		}
	}
	return b.settle(ctx)
}

// settleTime is the time in which the kernel cleans up after network namespaces, while it holds locks that an
// ADD waits for.
const settleTime = 300 * time.Millisecond

func (b *bench) settle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(settleTime):
		return nil
	}
}

// remove deletes pods that are not needed any more, and waits until the deletion disturbs no measurement.
func (b *bench) remove(ctx context.Context, pods []*lab.Pod) error {
	if err := each(len(pods), func(i int) error { return pods[i].Delete(ctx) }); err != nil {
		return err
	}
	return b.settle(ctx)
}
