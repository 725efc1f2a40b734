// SPDX-License-Identifier: Apache-2.0

// Command soak lets pods talk to each other for a while in every way that it knows, chosen at random, and checks each
// byte: sizes, pauses, flags, half closes, resets and killed processes.
//
//	go run ./test/soak -duration 1h
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

type options struct {
	duration time.Duration
	pods     int
	talks    int // at the same time
	seed     uint64
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", 2*time.Minute, "how long, at most 1h")
	flag.IntVar(&o.pods, "pods", 16, "how many pods")
	flag.IntVar(&o.talks, "talks", 24, "how many conversations at the same time")
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
	bin := filepath.Join(root, ".cache", "lab")
	if err := lab.BuildPlugins(ctx, bin); err != nil {
		return err
	}
	node, err := lab.NewNode(ctx, lab.Options{Name: "soak", BinDir: bin})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	pods, err := makePods(ctx, node, o.pods)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	counts := talk(ctx, cancel, pods, o)
	if err := context.Cause(ctx); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	if counts.first != nil {
		return counts.first
	}
	return report(node, counts, o)
}

func makePods(ctx context.Context, node *lab.Node, n int) ([]*lab.Pod, error) {
	conflist, err := node.Conflist(lab.Network{
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.62.0.0/24"), netip.MustParsePrefix("fd5c:1f0e:62a0::/64")},
		Set:     map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	})
	if err != nil {
		return nil, err
	}
	var pods []*lab.Pod
	for range n {
		p, err := node.NewPod(ctx, lab.PodSpec{Conflist: conflist})
		if err != nil {
			return nil, err
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// counts are what happened, by kind of conversation.
type counts struct {
	mu    sync.Mutex
	done  map[string]int
	bytes uint64
	first error
}

// talk runs conversations until ctx ends, or one finds a wrong byte.
func talk(ctx context.Context, cancel func(), pods []*lab.Pod, o options) *counts {
	c := &counts{done: map[string]int{}}
	var workers sync.WaitGroup
	for i := range o.talks {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(o.seed, uint64(i)))
			for ctx.Err() == nil {
				kind := kinds[rng.IntN(len(kinds))]
				from, to := pods[rng.IntN(len(pods))], pods[rng.IntN(len(pods))]
				n, err := kind.talk(ctx, rng, from, to)
				c.mu.Lock()
				c.done[kind.name]++
				c.bytes += n
				if err != nil && ctx.Err() == nil && c.first == nil {
					c.first = fmt.Errorf("%s from %s to %s: %w", kind.name, from, to, err)
					cancel()
				}
				c.mu.Unlock()
			}
		})
	}
	workers.Wait()
	return c
}

func report(node *lab.Node, c *counts, o options) error {
	d, err := datapath.Open(node.BPFFS())
	if err != nil {
		return err
	}
	defer d.Close()
	totals, err := d.Totals()
	if err != nil {
		return err
	}
	var redirected, tcp uint64
	for _, t := range totals {
		redirected += t.RedirectedBytes
		tcp += t.TCPBytes
	}
	fmt.Printf("%v, %d pods, seed %d: %.1f GB checked, no byte wrong; %.1f %% of what paired sockets sent was redirected\n",
		o.duration, o.pods, o.seed, float64(c.bytes)/1e9, 100*float64(redirected)/max(1, float64(redirected+tcp)))
	var names []string
	for name := range c.done {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("  %7d  %s\n", c.done[name], name)
	}
	if redirected == 0 {
		return errors.New("nothing was redirected, so this shows nothing")
	}
	return nil
}
