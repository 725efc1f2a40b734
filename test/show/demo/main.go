// SPDX-License-Identifier: Apache-2.0

// Command demo compares two pairs of containers that use the conflist of conf/, one without and one with
// sockmap in the chain, over the pod address and over a DNAT service address.
//
// It runs in its own namespaces and cgroups and removes them, on Ctrl-C too.
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

// limit bounds everything except the build, which takes long on a machine that builds for the first time.
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
	say("Building sockmap and the reference CNI plugins (slow the first time) …")
	bin, err := build(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	name := fmt.Sprintf("demo%d", os.Getpid())
	var log bytes.Buffer // messages of the plugins: printed only after an error
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
	say("Creating two pairs of containers with libcni: one with bridge, host-local and portmap, one with sockmap added to this chain …")
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
	if err := printHazards(node); err != nil {
		return err
	}
	say("Checking every byte of requests and streams in both pairs, to the pod address and to a service address …")
	for _, p := range []*pair{plain, chained} {
		if err := p.check(ctx, node); err != nil {
			return err
		}
	}
	say("Measuring the traffic of both pairs in turn …")
	results, err := measure(node, plain, chained)
	if err != nil {
		return err
	}
	// Println of lipgloss omits colours where the output is not a terminal.
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

// residue returns an error if something of this demo is left.
func residue(name string) error {
	left, err := lab.Residue(name)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %v", left)
	}
	say("Removed all containers, namespaces and BPF programs of the demo.")
	return nil
}

func say(line string) { fmt.Println("•", line) }
