// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// eviction takes live connections out of the sockhash after the kill switch is on, so that they are plain TCP
// again.
type eviction struct {
	run *datapath.Eviction // nil: nothing is loaded, or this kernel cannot
	err error
}

// evicting opens the programs that evict, before an unload removes the pins.
func (a *app) evicting() *eviction {
	d, err := datapath.Open(a.dir)
	if err != nil {
		return &eviction{}
	}
	defer d.Close()
	e := &eviction{}
	e.run, e.err = d.NewEviction()
	return e
}

func (e *eviction) close() error {
	if e.run == nil {
		return nil
	}
	return e.run.Close()
}

// end evicts, and records in kept how many sockets stay, and why. If this kernel cannot evict, all of them
// stay.
func (e *eviction) end(kept *keptView) error {
	if e.run == nil {
		kept.why = e.err
		return nil
	}
	stay, err := e.run.Run()
	if err != nil {
		return fmt.Errorf("take live connections out of the sockhash: %w", err)
	}
	kept.stay, kept.sockets = stay, kept.elsewhere
	for _, n := range stay {
		kept.sockets += n
	}
	return nil
}

// stayText is nil if no socket stays.
func stayText(stay map[datapath.Stay]int) (lines []string) {
	var parts []string
	for why, n := range stay {
		parts = append(parts, fmt.Sprintf("%d %s", n, why))
	}
	if len(parts) == 0 {
		return nil
	}
	slices.Sort(parts)
	return []string{"sockets that stay in the sockhash until their connections end: " +
		strings.Join(parts, ", ")}
}
