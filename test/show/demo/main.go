// SPDX-License-Identifier: Apache-2.0

// Command demo shows what sockmap does: two containers that talk to each other through the conflist of conf/,
// once without and once with sockmap in the chain, directly and through a DNAT service address.
//
// Everything happens in namespaces and cgroups of its own. Nothing is left behind, on Ctrl-C neither.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"charm.land/lipgloss/v2"
	"golang.org/x/sys/unix"

	"github.com/sockmap-cni/sockmap-cni/pkg/bench/wire"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// limit is for everything but building on a machine that builds for the first time.
const limit = 80 * time.Second

func main() {
	wire.Main()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "\ninterrupted, everything is cleaned up")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	say("Building the plugins (the reference plugins too; a few seconds unless it is the first time) …")
	bin, err := build(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	name := fmt.Sprintf("demo%d", os.Getpid())
	var log bytes.Buffer // of the plugins: only worth reading if something fails
	node, err := lab.NewNode(ctx, lab.Options{Name: name, BinDir: bin, Log: &log})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			os.Stderr.Write(log.Bytes())
		}
		err = errors.Join(err, node.Close(), residue(name))
	}()
	say("Making two pairs of containers through libcni: bridge + host-local + portmap, and the same with sockmap chained behind …")
	plain, err := newPair(ctx, node, "plain", 0)
	if err != nil {
		return err
	}
	defer plain.stop()
	chained, err := newPair(ctx, node, "sockmap", 1)
	if err != nil {
		return err
	}
	defer chained.stop()
	if err := tellHazards(node); err != nil {
		return err
	}
	say("Comparing each byte of requests and streams, directly and through a service address, in both pairs …")
	for _, p := range []*pair{plain, chained} {
		if err := p.check(ctx, node); err != nil {
			return err
		}
	}
	say("Measuring real traffic, both pairs in turn …")
	results, err := measure(node, plain, chained)
	if err != nil {
		return err
	}
	// Println of lipgloss leaves colours out where the output is not a terminal.
	_, err = lipgloss.Println("\n" + table(results) + "\n" + footnotes(chained))
	return err
}

func build(ctx context.Context) (string, error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, ".cache", "lab")
	return bin, lab.BuildPlugins(ctx, bin)
}

// residue turns what is left of this demo into an error.
func residue(name string) error {
	left, err := lab.Residue(name)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %v", left)
	}
	say("Removed all of it; nothing is left behind.")
	return nil
}

func say(line string) { fmt.Println("•", line) }
