// SPDX-License-Identifier: Apache-2.0

//go:build !lean

package main

import (
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/top"
	"github.com/spf13/cobra"
)

func topCommand(a *app) *cobra.Command {
	var filter live.Filter
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch connections or pods on the whole terminal, the busiest first",
		Long: `Refreshes once a second: the redirected bytes, the bytes over TCP with the
reasons, and the connections or pods that send them. The screen shows the keys;
? explains them. The key / searches the rows that the filters leave. top needs a
terminal; scripts use sockmapctl flows --watch.`,
		Example: `  sockmapctl top
  sockmapctl top -n shop --port '!22'`,
	}
	a.filterFlags(cmd, &filter, live.ByOwner|live.ByAddress|live.ByPort|live.ByState)
	return runs(cmd, func(cmd *cobra.Command) error {
		read := func() top.Sample { return a.sample(&filter) }
		if err := top.Run(cmd.Context(), a.stdout, a.getenv, read); err != nil {
			return fmt.Errorf("top: %w", err)
		}
		return nil
	})
}

func (a *app) sample(f *live.Filter) top.Sample {
	s, err := a.readSample()
	s.At = time.Now()
	if err != nil {
		s.Err, s.WayOut = err, wayOut(a.env, "sockmapctl top", &failure{err})
	}
	if s.Filter = f.String(); s.Filter != "" {
		s.Flows = f.BothEnds(s.Flows)
	}
	return s
}

func (a *app) readSample() (s top.Sample, err error) {
	d, err := datapath.Open(a.dir)
	if err != nil {
		return s, err
	}
	defer d.Close()
	cfg, err := d.Config()
	if err != nil {
		return s, err
	}
	s.Disabled, s.Max = cfg.Disabled, cfg.MaxSockets
	own, err := live.ReadOwners(d)
	if err != nil {
		return s, err
	}
	listed, err := live.List(d)
	if err != nil {
		return s, err
	}
	s.Flows = live.NewFlows(listed, own)
	totals, err := d.Totals()
	if err != nil {
		return s, err
	}
	s.Fallbacks = map[string]uint64{}
	for _, t := range totals {
		for reason, n := range t.Fallbacks {
			s.Fallbacks[reason.String()] += n
		}
	}
	return s, nil
}
