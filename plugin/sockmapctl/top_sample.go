// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// topSample is one look at the node.
type topSample struct {
	at        time.Time
	err       error
	wayOut    string // what to do about err; may be empty
	disabled  bool
	max       uint32 // sockets
	flows     []flowView
	fallbacks map[string]uint64 // by reason, since loading
}

func (a *app) sample() topSample {
	s, err := a.readSample()
	s.at = time.Now()
	if err != nil {
		s.err, s.wayOut = err, wayOut(a.env, "sockmapctl top", &failure{err})
	}
	return s
}

func (a *app) readSample() (s topSample, err error) {
	d, err := datapath.Open(a.dir)
	if err != nil {
		return s, err
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		return s, err
	}
	s.disabled, s.max = cfg.Disabled, cfg.MaxSockets
	own, err := readOwners(d)
	if err != nil {
		return s, err
	}
	live, err := readFlows(d)
	if err != nil {
		return s, err
	}
	s.flows = newFlowViews(live, own)
	totals, err := d.Totals()
	if err != nil {
		return s, err
	}
	s.fallbacks = map[string]uint64{}
	for _, t := range totals {
		for reason, n := range t.Fallbacks {
			s.fallbacks[reason.String()] += n
		}
	}
	return s, nil
}
