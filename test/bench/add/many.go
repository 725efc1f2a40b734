// SPDX-License-Identifier: Apache-2.0

package add

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab"
)

// FirstTen is the variant of the same chain while the node had few pods.
const FirstTen result.Variant = "first ten"

// edge is the number of pods that are added one at a time, at the beginning and at the end.
const edge = 10

// ManyPods fills a node with n pods, without sockmap and with it, and compares the last ten ADDs with the
// first ten. At the end it checks that nothing of the pods is left.
func ManyPods(ctx context.Context, o Options, n, rounds int) (cells []result.Cell, err error) {
	first, last := times{}, times{}
	for round := range rounds {
		for k := range 2 {
			v := []result.Variant{result.Plain, result.Sockmap}[(k+round)%2]
			few, many, err := fill(ctx, o, v, n)
			if err != nil {
				return nil, fmt.Errorf("%d pods, chain %s: %w", n, v, err)
			}
			first[v], last[v] = append(first[v], few...), append(last[v], many...)
		}
	}
	name := fmt.Sprintf("ADD at pod %d of %d", n-edge+1, n)
	against := cell(name, "p50", last)
	against.Group = "scale"
	grown := cell(name, "p50", times{FirstTen: first[result.Sockmap], result.Sockmap: last[result.Sockmap]})
	grown.Group, grown.Base = "scale", FirstTen
	grown.Note = fmt.Sprintf("without sockmap: %.1f ms at the first ten, %.1f ms here; nothing was left of the pods",
		result.Median(first[result.Plain])/1e6, result.Median(last[result.Plain])/1e6)
	return []result.Cell{against, grown}, nil
}

func fill(ctx context.Context, o Options, v result.Variant, n int) (first, last []float64, err error) {
	b, err := open(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.warm(ctx); err != nil {
		return nil, nil, err
	}
	c := b.of(v)
	pods := make([]*lab.Pod, n)
	err = each(n, func(i int) (err error) {
		pods[i], err = b.pod(ctx, c)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := b.settle(ctx); err != nil {
		return nil, nil, err
	}
	if first, err = b.timed(ctx, o.CPU, c, pods[:edge]); err != nil {
		return nil, nil, err
	}
	err = each(n-2*edge, func(i int) error {
		_, _, err := b.add(ctx, c, pods[edge+i])
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if last, err = b.timed(ctx, o.CPU, c, pods[n-edge:]); err != nil {
		return nil, nil, err
	}
	if err := b.remove(ctx, pods); err != nil {
		return nil, nil, err
	}
	return first, last, b.empty()
}

// timed adds pods one at a time.
func (b *bench) timed(ctx context.Context, cpu int, c chain, pods []*lab.Pod) (took []float64, err error) {
	err = onCPU(cpu, func() error {
		for _, p := range pods {
			d, _, err := b.add(ctx, c, p)
			if err != nil {
				return err
			}
			took = append(took, float64(d))
		}
		return nil
	})
	return took, err
}

// empty returns an error that lists what is left of the pods.
func (b *bench) empty() error {
	d, err := datapath.Open(b.BPFFS())
	if err != nil {
		return err
	}
	defer d.Close()
	attachments, err := d.Attachments()
	if err != nil {
		return err
	}
	endpoints, err := d.Endpoints()
	if err != nil {
		return err
	}
	// A link disappears some time after its pin.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		links, err := d.LinkKeys()
		if err != nil {
			return err
		}
		if len(attachments)+len(endpoints)+len(links) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after the DEL of all pods there are %d records, %d endpoints and %d links left",
				len(attachments), len(endpoints), len(links))
		}
	}
}
