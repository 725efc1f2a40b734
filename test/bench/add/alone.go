// SPDX-License-Identifier: Apache-2.0

package add

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// Goals: the time that an ADD may add to the chain alone.
const (
	limitP50   = 3 * time.Millisecond
	limitP99   = 10 * time.Millisecond
	limitFirst = 200 * time.Millisecond
)

// perBlock is the number of pods of each chain that exist at the same time.
const perBlock = 20

// verbTimes are the times of one verb: of the whole chain, and of the process of the plugin after the bridge.
type verbTimes struct{ chain, process times }

func (v *verbTimes) note(of result.Variant, all, plugin time.Duration) {
	v.chain.note(of, all)
	if of != result.Plain {
		v.process.note(of, plugin)
	}
}

// Alone measures ADD and DEL of all chains, n of each, one at a time and in turn.
func Alone(ctx context.Context, o Options, n int) (cells []result.Cell, err error) {
	adds, dels := verbTimes{times{}, times{}}, verbTimes{times{}, times{}}
	err = onCPU(o.CPU, func() (err error) {
		b, err := open(ctx, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Close()) }()
		if err := b.warm(ctx); err != nil {
			return err
		}
		for done := 0; done < n; done += perBlock {
			if err := b.block(ctx, min(perBlock, n-done), &adds, &dels); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	cells = append(adds.cells("ADD alone"), dels.cells("DEL alone")...)
	for i := range cells {
		if cells[i].Name == "ADD alone beyond the chain" {
			cells[i].Limit = float64(map[string]time.Duration{"p50": limitP50, "p99": limitP99}[cells[i].Measure])
		}
	}
	return cells, nil
}

// block makes all pods first and removes them last, so that only ADDs and DELs run in between.
func (b *bench) block(ctx context.Context, rounds int, adds, dels *verbTimes) error {
	pods := make([]*lab.Pod, rounds*len(b.chains))
	err := each(len(pods), func(i int) (err error) {
		pods[i], err = b.pod(ctx, b.chains[i%len(b.chains)])
		return err
	})
	if err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	for _, verb := range []struct {
		do   func(context.Context, chain, *lab.Pod) (all, plugin time.Duration, err error)
		into *verbTimes
	}{{b.add, adds}, {b.del, dels}} {
		for round := range rounds {
			for k := range b.chains {
				k = (k + round) % len(b.chains) // no variant always follows the same other
				all, plugin, err := verb.do(ctx, b.chains[k], pods[round*len(b.chains)+k])
				if err != nil {
					return fmt.Errorf("chain %s: %w", b.chains[k].variant, err)
				}
				verb.into.note(b.chains[k].variant, all, plugin)
			}
		}
	}
	return b.remove(ctx, pods)
}

func (v *verbTimes) cells(name string) []result.Cell {
	n := len(v.chain[result.Plain])
	beyond := v.chain.beyond()
	all := []result.Cell{
		cell(name, "p50", v.chain),
		cell(name, "p99", v.chain.at(99)),
		cell(name+" beyond the chain", "p50", beyond),
		cell(name+" beyond the chain", "p99", beyond.at(99)),
		cell(name+", the plugin's process", "p50", v.process),
		cell(name+", the plugin's process", "p99", v.process.at(99)),
	}
	for i := range all {
		switch {
		case i/2 == 1:
			all[i].Note = "each minus the chain alone just before or after it"
		case i/2 == 2:
			all[i].Base = Tuning
			all[i].Note = "from before its process is made to its end; tuning does nothing"
		}
		if all[i].Measure == "p99" {
			all[i].Repeats = n
		}
	}
	return all
}
