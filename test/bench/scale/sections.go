// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/test/bench/add"
	"github.com/sockmap-cni/sockmap-cni/test/bench/result"
)

// section is a part of the benchmark that -run selects.
type section struct {
	name    string
	measure func(ctx context.Context, s *suite) ([]result.Cell, error)
}

// sizes are the numbers of everything.
type sizes struct {
	name       string
	levels     []level
	fullRounds int
	pods       int
	podRounds  int
	adds       int // containers of each chain, alone
	atOnce     int
	onceRounds int
	boots      int
}

// Five rounds are the fewest whose interval allows a judgement.
var (
	full = sizes{
		name: "full",
		levels: []level{
			{flows: 1_000, rounds: 5, requests: 40_000}, {flows: 10_000, rounds: 5, requests: 40_000},
			{flows: 100_000, rounds: 5, requests: 40_000, last: true},
		},
		fullRounds: 5, pods: 200, podRounds: 1, adds: 120, atOnce: 50, onceRounds: 5, boots: 7,
	}
	short = sizes{
		name: "quick",
		levels: []level{
			{flows: 1_000, rounds: 2, requests: 5_000},
			{flows: 10_000, rounds: 1, requests: 5_000, last: true},
		},
		fullRounds: 2, pods: 40, podRounds: 1, adds: 10, atOnce: 10, onceRounds: 1, boots: 2,
	}
)

func (z sizes) sections() (all []section) {
	for _, l := range z.levels {
		all = append(all, section{"scale/" + l.name(), l.measure})
	}
	options := func(s *suite) add.Options { return add.Options{BinDir: s.bin, Log: &s.log, CPU: s.cpu} }
	return append(all,
		section{"scale/map full", func(ctx context.Context, s *suite) ([]result.Cell, error) {
			return mapFull(ctx, s, z.fullRounds)
		}},
		section{fmt.Sprintf("scale/%d pods", z.pods), func(ctx context.Context, s *suite) ([]result.Cell, error) {
			return add.ManyPods(ctx, options(s), z.pods, z.podRounds)
		}},
		section{"add/alone", func(ctx context.Context, s *suite) ([]result.Cell, error) {
			return add.Alone(ctx, options(s), z.adds)
		}},
		section{fmt.Sprintf("add/%d at once", z.atOnce),
			func(ctx context.Context, s *suite) ([]result.Cell, error) {
				return add.AtOnce(ctx, options(s), z.atOnce, z.onceRounds)
			}},
		section{"add/first of a boot", func(ctx context.Context, s *suite) ([]result.Cell, error) {
			return add.FirstOfABoot(ctx, options(s), z.boots)
		}},
	)
}
