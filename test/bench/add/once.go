// SPDX-License-Identifier: Apache-2.0

package add

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// AtOnce measures n ADDs of the same chain that begin at the same time, and then n DELs. It measures all
// chains in turn, except the one with ports, whose iptables would take seconds each.
func AtOnce(ctx context.Context, o Options, n, rounds int) (cells []result.Cell, err error) {
	b, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.warm(ctx); err != nil {
		return nil, err
	}
	p50, p99 := map[string]times{"ADD": {}, "DEL": {}}, map[string]times{"ADD": {}, "DEL": {}}
	chains := slices.DeleteFunc(slices.Clone(b.chains), func(c chain) bool { return c.variant == PortmapPorts })
	for round := range rounds {
		for k := range chains {
			c := chains[(k+round)%len(chains)]
			took, err := b.crowd(ctx, c, n)
			if err != nil {
				return nil, fmt.Errorf("chain %s: %w", c.variant, err)
			}
			for verb, all := range took {
				p50[verb][c.variant] = append(p50[verb][c.variant], percentile(all, 50))
				p99[verb][c.variant] = append(p99[verb][c.variant], percentile(all, 99))
			}
		}
	}
	for _, verb := range []string{"ADD", "DEL"} {
		name := fmt.Sprintf("%s, %d at once", verb, n)
		cells = append(cells, cell(name, "p50", p50[verb]), cell(name, "p99", p99[verb]))
	}
	for i := range cells {
		cells[i].Repeats = n
	}
	return cells, nil
}

// crowd returns the times by verb.
func (b *bench) crowd(ctx context.Context, c chain, n int) (map[string][]float64, error) {
	pods := make([]*lab.Pod, n)
	err := each(n, func(i int) (err error) {
		pods[i], err = b.pod(ctx, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	took := map[string][]float64{"ADD": make([]float64, n), "DEL": make([]float64, n)}
	for _, verb := range []struct {
		name string
		do   func(context.Context, chain, *lab.Pod) (all, plugin time.Duration, err error)
	}{{"ADD", b.add}, {"DEL", b.del}} {
		err := together(n, func(i int) error {
			all, _, err := verb.do(ctx, c, pods[i])
			took[verb.name][i] = float64(all)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := b.settle(ctx); err != nil {
			return nil, err
		}
	}
	return took, b.remove(ctx, pods)
}

// FirstOfABoot measures the first ADD with sockmap on each of this many nodes: it loads the programs.
func FirstOfABoot(ctx context.Context, o Options, boots int) ([]result.Cell, error) {
	all := times{}
	err := onCPU(o.CPU, func() error {
		for range boots {
			if err := boot(ctx, o, all); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	name := "first ADD of a boot"
	beyond := cell(name+" beyond the chain", "p50", all.beyond())
	beyond.Limit, beyond.Note = float64(limitFirst), "it loads the programs and asks the kernel for its hazards"
	return []result.Cell{cell(name, "p50", all), beyond}, nil
}

func boot(ctx context.Context, o Options, into times) (err error) {
	b, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	plain, sockmap := b.of(result.Plain), b.of(result.Sockmap)
	// The bridges of both chains exist already: containers of other networks came first.
	bare := sockmap
	if bare.list, err = b.bareSockmap(); err != nil {
		return err
	}
	for _, c := range []chain{plain, bare} {
		if _, err := b.once(ctx, c); err != nil {
			return err
		}
	}
	for _, c := range []chain{plain, sockmap} {
		took, err := b.once(ctx, c)
		if err != nil {
			return err
		}
		into.note(c.variant, took)
	}
	return nil
}

// bareSockmap is the network of the chain with sockmap, without it.
func (b *bench) bareSockmap() ([]byte, error) {
	for i, c := range b.chains {
		if c.variant == result.Sockmap {
			c.plugin = ""
			return b.conflist(c, byte(i))
		}
	}
	return nil, errors.New("no chain with sockmap")
}

func (b *bench) once(ctx context.Context, c chain) (time.Duration, error) {
	p, err := b.pod(ctx, c)
	if err != nil {
		return 0, err
	}
	took, _, err := b.add(ctx, c, p)
	return took, err
}
