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

// avoidedView is an entry that keeps later connections of one pod, or to it, on TCP.
type avoidedView struct {
	Namespace   string   `json:"namespace" doc:"namespace of the pod whose program was observed; empty when there is no pod"`
	Pod         string   `json:"pod" doc:"name of that pod; empty when there is no pod"`
	NetNSCookie uint64   `json:"netnsCookie" doc:"of the network namespace of that pod"`
	Port        uint16   `json:"port" doc:"port of the server"`
	Destination string   `json:"destination" doc:"only connections of this pod to this address are avoided; empty: all connections to its port"`
	Why         []string `json:"why" doc:"what the program used, as reasons of a live flow: waitall, oob, blocking, discard, splice"`
	SecondsLeft float64  `json:"secondsLeft" doc:"time until the entry expires, unless a guard observes the same again"`

	label string
}

func avoidedCommand(a *app) *cobra.Command {
	var filter live.Filter
	cmd := a.withList(&cobra.Command{
		Use:   "avoided",
		Short: "List ports and destinations that guards keep on TCP",
		Long: `Lists why new connections stay on TCP (result avoided): a guard saw that a
program used a feature that works only over TCP. An entry is the listening port
of a server, for all its clients, or the destination of a client that sent
MSG_OOB or received with splice(2), for this client alone. An entry expires ten
minutes after the last such use. For a server that is seen again this time
grows, up to ten hours and forty minutes. forget removes entries at once.`,
		Example: `  sockmapctl avoided
  sockmapctl avoided -o json | jq '.items[] | select(.why[] == "blocking") | {pod, port}'`,
	})
	a.filterFlags(cmd, &filter, live.ByOwner|live.ByPort)
	return runs(cmd, func(*cobra.Command) error {
		d, err := datapath.Open(a.dir)
		if err != nil {
			return fmt.Errorf("list avoided: %w", err)
		}
		defer d.Close()
		views, err := avoidedViews(d, &filter)
		if err != nil {
			return fmt.Errorf("list avoided: %w", err)
		}
		return printList(a, listing[avoidedView]{
			kind: "Avoided", items: views, table: func() *term.Table { return avoidedTable(views) },
			name: func(v *avoidedView) string { return v.label + ":" + strconv.Itoa(int(v.Port)) },
		})
	})
}

func avoidedViews(d *datapath.Datapath, f *live.Filter) ([]avoidedView, error) {
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
		if f.Fits(avoidedSubject(one, own)) {
			views = append(views, newAvoidedView(one, own))
		}
	}
	slices.SortFunc(views, func(a, b avoidedView) int {
		return cmp.Or(cmp.Compare(a.label, b.label), cmp.Compare(a.NetNSCookie, b.NetNSCookie),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Destination, b.Destination))
	})
	return views, nil
}

// avoidedSubject is an entry as filters see it: its only end is the pod whose program caused the entry.
func avoidedSubject(a datapath.Avoided, own live.Owners) *live.Subject {
	return &live.Subject{Ends: [2]live.End{own.End(a.NetNSCookie)}, Port: a.Port}
}

func newAvoidedView(a datapath.Avoided, own live.Owners) avoidedView {
	v := avoidedView{
		Namespace: own[a.NetNSCookie].Namespace, Pod: own[a.NetNSCookie].Pod, NetNSCookie: a.NetNSCookie,
		Port: a.Port,
		Why:  live.Names(a.Why), SecondsLeft: a.Left.Seconds(), label: own.Label(a.NetNSCookie),
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
		t.Add(v.label, strconv.Itoa(int(v.Port)), v.Destination, strings.Join(v.Why, ","),
			term.Age(term.Seconds(v.SecondsLeft)))
	}
	return t
}
