// SPDX-License-Identifier: Apache-2.0

// Command soak runs connections between pods for a while and checks each byte. Sizes, pauses, flags, half
// closes, resets and killed processes are chosen at random. Meanwhile it changes policies and the kill
// switch, does the agent's rounds, and attaches and detaches a foreign sock_ops program; natRefreshSeconds is
// 1. At the end no state of the sockets may be left.
//
//	go run ./test/soak -duration 1h
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

type options struct {
	duration time.Duration
	pods     int
	talks    int           // conversations at the same time
	change   time.Duration // average time between two changes of the node
	seed     uint64
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", 2*time.Minute, "how long, at most 1h")
	flag.IntVar(&o.pods, "pods", 16, "how many pods")
	flag.IntVar(&o.talks, "talks", 24, "how many conversations at the same time")
	flag.DurationVar(&o.change, "change", time.Second, "how often something on the node changes, on average")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of all random choices")
	flag.Parse()
	o.duration = min(o.duration, time.Hour)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v (seed %d)\n", err, o.seed)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, ".cache", "soak") // no other process builds into it
	if err := lab.BuildPlugins(ctx, bin); err != nil {
		return err
	}
	node, err := lab.NewNode(ctx, lab.Options{Name: "soak", BinDir: bin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	conflist, err := makeConflist(node)
	if err != nil {
		return err
	}
	pods, err := makePods(ctx, node, conflist, o.pods)
	if err != nil {
		return err
	}
	above, err := newForeign(filepath.Dir(pods[0].CgroupPath()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, above.close()) }()
	entry, err := sockmapEntry(conflist)
	if err != nil {
		return err
	}
	c := &changer{node: node, pods: pods, entry: entry, foreign: above, every: o.change,
		policy: map[*lab.Pod]int{}}
	return soak(ctx, c, o)
}

func soak(ctx context.Context, c *changer, o options) error {
	// So that it is present from the beginning, even in a short run.
	if err := c.changeForeign(ctx, rand.New(rand.NewPCG(o.seed, 0))); err != nil {
		return err
	}
	d, err := datapath.Open(c.node.BPFFS())
	if err != nil {
		return err
	}
	defer d.Close()
	r := &reporter{d: d, changer: c, counts: &counts{done: map[string]int{}}, start: time.Now()}
	limited, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	var beside sync.WaitGroup
	beside.Go(func() {
		if err := c.run(limited, rand.New(rand.NewPCG(o.seed, 1<<32))); err != nil {
			r.counts.fail(err, cancel)
		}
	})
	beside.Go(func() { r.eachMinute(limited) })
	talk(limited, cancel, c.pods, o, r.counts)
	cancel()
	beside.Wait()
	if r.counts.first != nil {
		return r.counts.first
	}
	return errors.Join(r.end(o), drained(ctx, c.node, c))
}

func makeConflist(node *lab.Node) ([]byte, error) {
	return node.Conflist(lab.Network{
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.62.0.0/24"),
			netip.MustParsePrefix("fd5c:1f0e:62a0::/64")},
		Set: map[string]map[string]any{"sockmap": {
			"acceptHazards": []string{"all"}, "required": true, "natRefreshSeconds": 1, "maxSockets": maxSockets,
		}},
	})
}

// sockmapEntry is the plugin's own configuration from the list, as a runtime passes it.
func sockmapEntry(conflist []byte) (keys, error) {
	var list struct {
		CNIVersion, Name string
		Plugins          []keys
	}
	if err := json.Unmarshal(conflist, &list); err != nil {
		return nil, fmt.Errorf("parse conflist: %w", err)
	}
	for _, entry := range list.Plugins {
		if entry["type"] == "sockmap" {
			entry["cniVersion"], entry["name"] = list.CNIVersion, list.Name
			delete(entry, "capabilities")
			return entry, nil
		}
	}
	return nil, errors.New("parse conflist: no sockmap in it")
}

func makePods(ctx context.Context, node *lab.Node, conflist []byte, n int) (pods []*lab.Pod, err error) {
	for range n {
		p, err := node.NewPod(ctx, lab.PodSpec{Conflist: conflist})
		if err != nil {
			return nil, err
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// counts are the numbers of conversations, by kind.
type counts struct {
	mu    sync.Mutex
	done  map[string]int
	bytes uint64
	first error
}

// fail keeps the first error and ends the run.
func (c *counts) fail(err error, cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		c.first = err
	}
	cancel()
}

// sums are the totals of bytes and conversations.
func (c *counts) sums() (bytes uint64, talks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.done {
		talks += n
	}
	return c.bytes, talks
}

// talk runs conversations until ctx ends, or one finds a wrong byte. A quarter of them are lasting ones.
func talk(ctx context.Context, cancel func(), pods []*lab.Pod, o options, c *counts) {
	var workers sync.WaitGroup
	for i := range o.talks {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(o.seed, uint64(i)))
			for ctx.Err() == nil {
				kind := kinds[rng.IntN(len(kinds))]
				if i%4 == 0 {
					kind = lastingKind
				}
				from, to := pods[rng.IntN(len(pods))], pods[rng.IntN(len(pods))]
				n, err := kind.talk(ctx, rng, from, to)
				if err != nil && ctx.Err() == nil {
					c.fail(fmt.Errorf("%s from %s to %s: %w", kind.name, from, to, err), cancel)
				}
				c.mu.Lock()
				c.done[kind.name]++
				c.bytes += n
				c.mu.Unlock()
			}
		})
	}
	workers.Wait()
}
