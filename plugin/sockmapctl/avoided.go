// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
	"github.com/spf13/cobra"
)

// avoidedView is why later connections of one pod, or to it, stay on TCP.
type avoidedView struct {
	Namespace   string   `json:"namespace" doc:"of the pod whose program was seen; empty when there is none"`
	Pod         string   `json:"pod" doc:"empty when there is none"`
	NetNSCookie uint64   `json:"netnsCookie" doc:"of its network namespace"`
	Port        uint16   `json:"port" doc:"of the server"`
	Destination string   `json:"destination" doc:"the pod is a client, and its own connections to there are avoided; empty: all connections to its port"`
	Why         []string `json:"why" doc:"reasons that a live flow would have: waitall, oob, blocking, discard"`
	SecondsLeft float64  `json:"secondsLeft" doc:"until it is forgotten, unless it is seen again"`

	label string
}

func avoidedCommand(a *app) *cobra.Command {
	var noHeader bool
	cmd := a.noun(&cobra.Command{
		Use:   "avoided",
		Short: "List ports and destinations that guards keep on TCP",
		Long: `Lists what later connections stay on TCP for (result avoided), because a guard
saw a program do what only TCP does right: listening ports of servers, for all
their clients, and destinations of clients that sent MSG_OOB, for these clients
alone. Each is forgotten ten minutes after it was last seen, a server that is
seen again after that later and later, up to ten hours and forty minutes; forget
does it now.`,
		Example: `  sockmapctl avoided
  sockmapctl avoided -o json | jq '.[] | select(.why[] == "blocking") | {pod, port}'`,
	}, formatTable, formatJSON)
	cmd.Flags().BoolVar(&noHeader, "no-header", false, "leave out the line of titles")
	return runs(cmd, func(*cobra.Command) error {
		d, err := datapath.Open(a.dir)
		if err != nil {
			return fmt.Errorf("list what is avoided: %w", err)
		}
		defer d.Close()
		views, err := avoidedViews(d)
		if err != nil {
			return fmt.Errorf("list what is avoided: %w", err)
		}
		if a.output == formatJSON {
			return a.printJSON(views)
		}
		return a.printTable(avoidedTable(views), !noHeader)
	})
}

func avoidedViews(d *datapath.Datapath) ([]avoidedView, error) {
	all, err := d.ListAvoided()
	if err != nil {
		return nil, err
	}
	own, err := live.ReadOwners(d)
	if err != nil {
		return nil, err
	}
	views := make([]avoidedView, 0, len(all))
	for _, one := range all {
		views = append(views, newAvoidedView(one, own))
	}
	slices.SortFunc(views, func(a, b avoidedView) int {
		return cmp.Or(cmp.Compare(a.label, b.label), cmp.Compare(a.NetNSCookie, b.NetNSCookie),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Destination, b.Destination))
	})
	return views, nil
}

func newAvoidedView(a datapath.Avoided, own live.Owners) avoidedView {
	v := avoidedView{
		Namespace: own[a.NetNSCookie].Namespace, Pod: own[a.NetNSCookie].Pod, NetNSCookie: a.NetNSCookie, Port: a.Port,
		Why: live.Names(a.Why), SecondsLeft: a.Left.Seconds(), label: own.Label(a.NetNSCookie),
	}
	if a.Destination.IsValid() {
		v.Destination = a.Destination.String()
	}
	return v
}

func avoidedTable(views []avoidedView) *term.Table {
	t := &term.Table{Columns: []term.Column{
		{Title: "POD", Min: 14, KeepEnd: true},
		{Title: "PORT", Right: true},
		{Title: "DESTINATION", Min: 16, KeepEnd: true},
		{Title: "WHY", Min: 8},
		{Title: "LEFT", Right: true},
	}}
	for _, v := range views {
		t.Add(v.label, strconv.Itoa(int(v.Port)), v.Destination, strings.Join(v.Why, ","), term.Age(term.Seconds(v.SecondsLeft)))
	}
	return t
}

func forgetCommand(a *app) *cobra.Command {
	var (
		pods, ports []string
		numbers     []live.PortRange
	)
	cmd := &cobra.Command{
		Use:   "forget",
		Short: "Let connections be redirected again that guards keep on TCP",
		Long: `Removes what avoided lists, all of it or what has one of the pods and one of the
ports. Later connections are redirected again, until a guard sees the same once
more. Live ones stay as they are.`,
		Example: `  sockmapctl forget
  sockmapctl forget --pod shop/db-0 --port 5432`,
	}
	cmd.Flags().StringSliceVar(&pods, "pod", nil, "`PODS` whose programs were seen: name, or namespace/name")
	cmd.Flags().StringSliceVar(&ports, "port", nil, "`PORTS` of servers, or ranges like 8000-8999")
	completeWith(cmd, "pod", a.podNames)
	cmd.PreRunE = func(*cobra.Command, []string) (err error) {
		numbers, err = live.ParsePorts(ports)
		return err
	}
	return runs(cmd, func(*cobra.Command) error {
		d, err := datapath.Open(a.dir)
		if err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		defer d.Close()
		own, err := live.ReadOwners(d)
		if err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		n, err := d.ForgetAvoided(func(one datapath.Avoided) bool {
			o := own[one.NetNSCookie]
			return live.FitsOne(pods, o.Pod, live.PodName(o.Namespace, o.Pod)) && live.FitsPorts(numbers, one.Port)
		})
		if err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		if n == 0 {
			return a.say("nothing to forget")
		}
		return a.say("forgot %s; later connections are redirected again", term.Number(n, "entry", "entries"))
	})
}
