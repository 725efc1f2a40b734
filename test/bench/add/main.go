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
	without, with, err := inTurn(ctx, bin, adds)
	if err != nil {
		return err
	}
	fmt.Printf("ADD of bridge + host-local + portmap, %d each in turn:\n", adds)
	print("without sockmap", without)
	print("with sockmap", with)
	var beyond []time.Duration
	for i := range with {
		beyond = append(beyond, with[i]-without[i])
	}
	print("difference, one by one", beyond)
	print(fmt.Sprintf("first ADD of a boot (%d nodes)", boots), first)
	return nil
}

func print(what string, all []time.Duration) {
	s := slices.Sorted(slices.Values(all))
	at := func(p int) float64 { return float64(s[min(len(s)*p/100, len(s)-1)].Microseconds()) / 1000 }
	fmt.Printf("  %-32s p50 %7.2f ms   p90 %7.2f ms   p99 %7.2f ms   max %7.2f ms\n", what, at(50), at(90), at(99), at(100))
}

// chains are the same list, without and with sockmap.
func chains(node *lab.Node) (without, with []byte, err error) {
	network := lab.Network{
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.62.0.0/16")},
		Set:     map[string]map[string]any{"sockmap": {"acceptHazards": []string{"all"}}},
	}
	with, err = node.Conflist(network)
	if err != nil {
		return nil, nil, err
	}
	network.Without, network.Name = []string{"sockmap"}, "plain"
	without, err = node.Conflist(network)
	return without, with, err
}

func firstOfABoot(ctx context.Context, bin string) (d time.Duration, err error) {
	node, err := lab.NewNode(ctx, lab.Options{Name: "add", BinDir: bin})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	without, with, err := chains(node)
	if err != nil {
		return 0, err
	}
	plain, err := add(ctx, node, without)
	if err != nil {
		return 0, err
	}
	chained, err := add(ctx, node, with)
	return chained - plain, err
}

func inTurn(ctx context.Context, bin string, adds int) (without, with []time.Duration, err error) {
	node, err := lab.NewNode(ctx, lab.Options{Name: "add", BinDir: bin})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	plain, chained, err := chains(node)
	if err != nil {
		return nil, nil, err
	}
	if _, err := add(ctx, node, chained); err != nil { // loads
		return nil, nil, err
	}
	for range adds {
		a, err := add(ctx, node, plain)
		if err != nil {
			return nil, nil, err
		}
		b, err := add(ctx, node, chained)
		if err != nil {
			return nil, nil, err
		}
		without, with = append(without, a), append(with, b)
	}
	return without, with, nil
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
