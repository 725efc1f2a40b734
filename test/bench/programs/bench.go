// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

// bench is a node with its containers.
type bench struct {
	node    *lab.Node
	options options
	peer    string // the program of peer/
	pairs   map[string]*pods.Pair
}

// variants are compared.
var variants = []result.Variant{result.Plain, result.Sockmap}

func newBench(ctx context.Context, node *lab.Node, o options) (*bench, error) {
	if o.bin == "" {
		if err := lab.BuildModule(ctx, node.Bin(), "test/bench", "./programs/peer"); err != nil {
			return nil, err
		}
	}
	// Servers that do not run as root find their files below it.
	if err := os.Chmod(node.Dir(), 0o711); err != nil {
		return nil, fmt.Errorf("let servers into the node's directory: %w", err)
	}
	return &bench{node: node, options: o, peer: filepath.Join(node.Bin(), "peer"),
		pairs: map[string]*pods.Pair{}}, nil
}

// sides of a program, with empty directories.
func (b *bench) sides(ctx context.Context, p program) (sides []*side, err error) {
	for i, v := range variants {
		name, index := string(v), byte(i)
		if p.apart {
			name, index = name+"2", index+byte(len(variants))
		}
		pair := b.pairs[name]
		if pair == nil {
			if pair, err = pods.New(ctx, b.node, name, index, v == result.Sockmap); err == nil {
				err = manyPorts(ctx, pair.Client)
			}
			if err != nil {
				return nil, err
			}
			b.pairs[name] = pair
		}
		s := &side{bench: b, variant: v, pods: pair, dir: filepath.Join(b.node.Dir(), p.name+"-"+string(v))}
		if err := os.Mkdir(s.dir, 0o755); err != nil {
			return nil, fmt.Errorf("make directory of %s: %w", p.name, err)
		}
		sides = append(sides, s)
	}
	return sides, nil
}

// manyPorts lets a client connect more often than the kernel's defaults allow, which fail after 28,000
// connections in a minute.
func manyPorts(ctx context.Context, client *lab.Pod) error {
	_, err := client.Output(ctx, "sh", "-c",
		"echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse && echo 16000 65000 >/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return fmt.Errorf("give %s more ports: %w", client, err)
	}
	return nil
}

// all measures one program after the other. The error has the programs that could not be measured; the cells
// are those of the others.
func (b *bench) all(ctx context.Context, selected []selection) (cells []result.Cell, failed error) {
	for i, s := range selected {
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(os.Stderr, "• %s (%d of %d) …\n", s.program.name, i+1, len(selected))
		if err := b.one(ctx, s); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.program.name, err))
			continue
		}
		for _, m := range s.measurements {
			if m.failed != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", m, m.failed))
				continue
			}
			cells = append(cells, m.results(b.options.instructions)...)
		}
	}
	return cells, failed
}

// one measures one program.
func (b *bench) one(ctx context.Context, s selection) (err error) {
	sides, err := b.sides(ctx, s.program)
	if err != nil {
		return err
	}
	defer func() {
		for _, side := range sides {
			err = errors.Join(err, side.stop())
		}
	}()
	for _, side := range sides {
		if err := s.program.start(ctx, side); err != nil {
			return fmt.Errorf("%s: %w", side.variant, err)
		}
		if err := side.ready(ctx, s.program.check); err != nil {
			return fmt.Errorf("%s: %w", side.variant, err)
		}
	}
	for _, m := range s.measurements {
		m.warmUp(ctx, sides, b.options.duration)
	}
	for round := range b.options.rounds {
		for _, m := range s.measurements {
			m.round(ctx, sides, round, b.options.duration)
		}
	}
	for _, side := range sides {
		if err := s.program.check(ctx, side); err != nil {
			return fmt.Errorf("%s, after the measurement: %w", side.variant, err)
		}
	}
	return nil
}

// patience is how long a server may take to start, and to stop.
const patience = 20 * time.Second
