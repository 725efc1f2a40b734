// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
	"github.com/sockmap-cni/sockmap-cni/test/lab/pods"
)

const (
	fullSockets     = 1_000
	fullConnections = 2_000
)

// mapFull makes more connections than the map can hold: all must work, and the excess uses TCP.
func mapFull(ctx context.Context, s *suite, rounds int) (cells []result.Cell, err error) {
	node, err := pods.Node(ctx, &s.log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	var sides []*side
	for i, v := range []result.Variant{result.Plain, result.Sockmap} {
		sd, err := openSide(ctx, node, v, byte(i), fullConnections, s.cpu,
			map[string]any{"maxSockets": fullSockets})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, sd.close()) }()
		sides = append(sides, sd)
	}
	rates := byVariant{}
	var shares []float64
	for round := range rounds {
		for k := range sides {
			sd := sides[(k+round)%len(sides)]
			took, share, err := sd.overfill()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", sd.variant, err)
			}
			rates[sd.variant] = append(rates[sd.variant], fullConnections/took.Seconds())
			if sd.variant == result.Sockmap {
				shares = append(shares, share)
			}
		}
	}
	redirected := result.Median(shares)
	if redirected == 0 || redirected == 1 {
		err = fmt.Errorf("%.0f %% were redirected: the map was not full, or nothing is accelerated", 100*redirected)
	}
	cells = append(cells, result.Cell{
		Group: "scale", Name: fmt.Sprintf("%d connections, room for %d sockets, set-up", fullConnections,
			fullSockets),
		Measure: "rate", Unit: "1/s", Better: result.Higher, CPUs: "same", Samples: rates, Repeats: fullConnections,
		Note: fmt.Sprintf("each connection was asked and answered, in every round: %.0f %% of the bytes were redirected, the others "+
			"went by TCP", 100*redirected),
	})
	return cells, err
}

// overfill returns the share of the bytes that were redirected.
func (sd *side) overfill() (took time.Duration, share float64, err error) {
	before, err := sd.pair.Sent(sd.node)
	if err != nil {
		return 0, 0, err
	}
	if took, err = sd.crowd.Connect(fullConnections); err != nil {
		return 0, 0, err
	}
	asked, failed, why, err := sd.crowd.Ask()
	if err != nil {
		return 0, 0, err
	}
	if failed > 0 {
		return 0, 0, fmt.Errorf("%d of %d connections did not answer: %s", failed, asked, why)
	}
	if err := sd.crowd.Hangup(); err != nil {
		return 0, 0, err
	}
	now, err := sd.pair.Sent(sd.node)
	if err != nil {
		return 0, 0, err
	}
	// Sockets that are not in the map are not counted, so the application's bytes are the measure.
	const bytes = 2 * 64 * fullConnections
	return took, float64(now.Since(before).Redirected) / bytes, nil
}
