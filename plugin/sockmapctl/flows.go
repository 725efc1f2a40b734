// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

// flowsOptions are the flags of flows.
type flowsOptions struct {
	filter live.Filter
	sort   string
	watch  time.Duration // 0: once
	count  int           // lists; 0: until interrupted
	pairs  bool
}

func flowsCommand(a *app) *cobra.Command {
	var o flowsOptions
	cmd := a.withList(&cobra.Command{
		Use:   "flows",
		Short: "List the live sockets that are or may be redirected",
		Long: `Lists every live socket in the sockhash: one line for each end of a connection,
with the bytes that this end has sent, or with --pairs one line for both ends.
The list also has sockets whose peer has not joined. They leave the sockhash
when the first reply shows that the peer is elsewhere.

A socket whose network namespace belongs to no known container shows the cookie
of that namespace.`,
		Example: `  sockmapctl flows
  sockmapctl flows --pod shop/web-0 --mode tcp
  sockmapctl flows --port 8080 --sort-by rate --watch=2s
  sockmapctl flows --pairs -o wide
  sockmapctl flows -o json | jq '.items[] | select(.reason != "")'`,
	})
	flags := cmd.Flags()
	a.filterFlags(cmd, &o.filter, live.ByOwner|live.ByAddress|live.ByPort|live.ByState)
	sortFlag(cmd, &o.sort, live.FlowOrder, live.SortAddress)
	flags.DurationVarP(&o.watch, "watch", "w", 0, "refresh every `INTERVAL` and show rates")
	flags.Lookup("watch").NoOptDefVal = "1s"
	flags.IntVar(&o.count, "count", 0, "stop after `N` refreshes (with --watch; 0: never)")
	flags.BoolVar(&o.pairs, "pairs", false, "one line for each pair of sockets, with what both ends sent")
	before(cmd, func() error { return o.check(cmd.Flags().Changed("watch")) })
	return runs(cmd, func(cmd *cobra.Command) error {
		if o.watch > 0 {
			return a.watchFlows(cmd.Context(), &o)
		}
		flows, err := live.Read(a.dir)
		if err != nil {
			return fmt.Errorf("list flows: %w", err)
		}
		return a.printFlows(&o, flows)
	})
}

// shortestWatch bounds the load that a forgotten watch puts on a node.
const shortestWatch = 100 * time.Millisecond

func (o *flowsOptions) check(watching bool) error {
	if watching && o.watch < shortestWatch {
		return fmt.Errorf("--watch: %v is less than %v", o.watch, shortestWatch)
	}
	if o.count < 0 {
		return fmt.Errorf("--count: %d is negative", o.count)
	}
	if o.count > 0 && !watching {
		return errors.New("--count: it counts the refreshes of --watch, which is not given")
	}
	if o.sort == live.SortRate && !watching {
		return errors.New("--sort-by: rate needs --watch, as a rate takes two lists")
	}
	return nil
}

// printFlows filters, sorts and prints.
func (a *app) printFlows(o *flowsOptions, flows []live.Flow) error {
	wide, rates := a.output == formatWide, o.watch > 0
	if o.pairs {
		pairs := o.filter.Pairs(live.PairUp(flows))
		live.PairOrder.Sort(pairs, o.sort)
		return printList(a, listing[live.Pair]{
			kind: "FlowPair", items: pairs,
			table: func() *term.Table { return pairTable(pairs, wide, rates) },
			name:  func(p *live.Pair) string { return flowName(p.Ends()[0]) },
		})
	}
	flows = o.filter.Flows(flows)
	live.FlowOrder.Sort(flows, o.sort)
	return printList(a, listing[live.Flow]{
		kind: "Flow", items: flows, table: func() *term.Table { return flowTable(flows, wide, rates) },
		name: flowName,
	})
}

// flowName is the flow in the form that explain accepts.
func flowName(f *live.Flow) string { return f.Local.String() + " " + f.Remote.String() }

// watchFlows lists repeatedly until the context ends. That is not an error, because Ctrl-C is the normal end.
func (a *app) watchFlows(ctx context.Context, o *flowsOptions) error {
	var before live.Rates
	for n := 1; ; n++ {
		flows, err := live.Read(a.dir)
		if err != nil {
			return fmt.Errorf("list flows: %w", err)
		}
		before = before.Next(flows, time.Now())
		if !a.isDocument() && a.output != formatName {
			if err := a.beginScreen(n, o.watch); err != nil {
				return err
			}
		}
		if err := a.printFlows(o, flows); err != nil {
			return err
		}
		if n == o.count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.watch):
		}
	}
}

// beginScreen clears a terminal; elsewhere lists follow each other with a line between them.
func (a *app) beginScreen(n int, every time.Duration) error {
	switch {
	case a.width > 0:
		return a.say("\x1b[H\x1b[2J%s, every %v; Ctrl-C ends\n", time.Now().Format(time.TimeOnly), every)
	case n > 1:
		return a.say("")
	}
	return nil
}
