// SPDX-License-Identifier: Apache-2.0

// Command add measures what sockmap adds to an ADD: the chain of conf/ without and with it, in turn in one run, by the
// real plugins through libcni. The first ADD with sockmap on a new node is measured apart: it loads the programs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

func main() {
	adds := flag.Int("adds", 60, "ADDs of each chain")
	boots := flag.Int("boots", 5, "nodes whose first ADD is measured")
	flag.Parse()
	if err := run(context.Background(), *adds, *boots); err != nil {
		fmt.Fprintln(os.Stderr, "add:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, adds, boots int) error {
	root, err := lab.RepoRoot()
	if err != nil {
		return err
	}
	bin := filepath.Join(root, ".cache", "lab")
	if err := lab.BuildPlugins(ctx, bin); err != nil {
		return err
	}
	var first []time.Duration
	for range boots {
		d, err := firstOfABoot(ctx, bin)
		if err != nil {
			return err
		}
		first = append(first, d)
	}
	times, err := inTurn(ctx, bin, adds)
	if err != nil {
		return err
	}
	fmt.Printf("ADD of bridge + host-local + portmap, %d each in turn:\n", adds)
	print("alone", times.plain)
	print("with sockmap", times.sockmap)
	print("with tuning, which has nothing to do", times.tuning)
	print("sockmap beyond it, one by one", beyond(times.sockmap, times.plain))
	print("tuning beyond it, one by one", beyond(times.tuning, times.plain))
	print(fmt.Sprintf("first ADD of a boot (%d nodes)", boots), first)
	return nil
}

// times are of the same chain: alone, with sockmap behind it, and with the reference plugin tuning behind it, which shows
// what a plugin costs that does nothing.
type times struct{ plain, sockmap, tuning []time.Duration }

func beyond(with, without []time.Duration) (all []time.Duration) {
	for i := range with {
		all = append(all, with[i]-without[i])
	}
	return all
}

func print(what string, all []time.Duration) {
	s := slices.Sorted(slices.Values(all))
	at := func(p int) float64 { return float64(s[min(len(s)*p/100, len(s)-1)].Microseconds()) / 1000 }
	fmt.Printf("  %-38s p50 %7.2f ms   p90 %7.2f ms   p99 %7.2f ms   max %7.2f ms\n", what, at(50), at(90), at(99), at(100))
}

// chains are the same list: alone, with sockmap, with tuning.
func chains(node *lab.Node) (plain, sockmap, tuning []byte, err error) {
	network := lab.Network{
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.62.0.0/16")},
		Set:     map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	}
	if sockmap, err = node.Conflist(network); err != nil {
		return nil, nil, nil, err
	}
	network.Without, network.Name = []string{"sockmap"}, "plain"
	if plain, err = node.Conflist(network); err != nil {
		return nil, nil, nil, err
	}
	network.Name, network.Extra = "tuning", []map[string]any{{"type": "tuning"}}
	tuning, err = node.Conflist(network)
	return plain, sockmap, tuning, err
}

func firstOfABoot(ctx context.Context, bin string) (d time.Duration, err error) {
	node, err := lab.NewNode(ctx, lab.Options{Name: "add", BinDir: bin, PluginsHere: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	alone, chained, _, err := chains(node)
	if err != nil {
		return 0, err
	}
	before, err := add(ctx, node, alone)
	if err != nil {
		return 0, err
	}
	d, err = add(ctx, node, chained)
	return d - before, err
}

func inTurn(ctx context.Context, bin string, adds int) (t times, err error) {
	node, err := lab.NewNode(ctx, lab.Options{Name: "add", BinDir: bin, PluginsHere: true})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	plain, sockmap, tuning, err := chains(node)
	if err != nil {
		return t, err
	}
	if _, err := add(ctx, node, sockmap); err != nil { // loads
		return t, err
	}
	for range adds {
		for _, c := range []struct {
			conflist []byte
			into     *[]time.Duration
		}{{plain, &t.plain}, {sockmap, &t.sockmap}, {tuning, &t.tuning}} {
			d, err := add(ctx, node, c.conflist)
			if err != nil {
				return t, err
			}
			*c.into = append(*c.into, d)
		}
	}
	return t, nil
}

// add times one ADD; making the pod's namespace and cgroup is not part of it. The pod stays, as pods do.
func add(ctx context.Context, node *lab.Node, conflist []byte) (time.Duration, error) {
	pod, err := node.NewPod(ctx, lab.PodSpec{})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = node.ADD(ctx, conflist, pod)
	return time.Since(start), err
}
