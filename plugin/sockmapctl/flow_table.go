// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

func flowTable(flows []live.Flow, wide, rates bool) *term.Table {
	t := &term.Table{Columns: []term.Column{
		{Title: "LOCAL", Min: 12, KeepEnd: true},
		{Title: "REMOTE", Min: 12, KeepEnd: true},
		{Title: "CONTAINER", Min: 10, KeepEnd: true},
		{Title: "PEER", Min: 10, KeepEnd: true, Drop: 5},
		{Title: "ROLE", Drop: 2},
		{Title: "MODE"},
		{Title: "REASON", Min: 7},
		{Title: "REDIRECTED", Right: true},
		{Title: "MSGS", Right: true, Drop: 4},
		{Title: "TCP", Right: true},
		{Title: "TCP-MSGS", Right: true, Drop: 3},
		{Title: "AGE", Right: true, Drop: 1},
	}}
	t.With(rates, term.Column{Title: "REDIRECTED/S", Right: true}, term.Column{Title: "TCP/S", Right: true})
	t.With(wide, term.Column{Title: "BACKLOG", Right: true}, term.Column{Title: "STATE"},
		term.Column{Title: "NETNS", Right: true},
		term.Column{Title: "PEER-NETNS", Right: true}, term.Column{Title: "COOKIE", Right: true})
	for i := range flows {
		f := &flows[i]
		cells := []string{
			f.Local.String(), f.Remote.String(), f.Labels[0], f.Labels[1], f.Role, f.Mode, f.Reason,
			term.CompactBytes(f.RedirectedBytes), term.Count(f.RedirectedMessages),
			term.CompactBytes(f.TCPBytes), term.Count(f.TCPMessages), term.Age(term.Seconds(f.AgeSeconds)),
		}
		if rates {
			cells = append(cells, term.CompactRate(f.PerSecond().RedirectedBytes),
				term.CompactRate(f.PerSecond().TCPBytes))
		}
		if wide {
			cells = append(cells, term.CompactBytes(uint64(f.BacklogBytes)), live.TCPStateName(f.TCPState),
				cookieText(f.NetNSCookie), cookieText(f.PeerNetNSCookie), cookieText(f.SocketCookie))
		}
		t.Add(cells...)
	}
	return t
}

// pairTable has two values in many cells: one for the client, and one for the server.
func pairTable(pairs []live.Pair, wide, rates bool) *term.Table {
	t := &term.Table{Columns: []term.Column{
		{Title: "CLIENT", Min: 12, KeepEnd: true},
		{Title: "SERVER", Min: 12, KeepEnd: true},
		{Title: "CONTAINER", Min: 10, KeepEnd: true},
		{Title: "PEER", Min: 10, KeepEnd: true, Drop: 3},
		{Title: "MODE→", Right: true},
		{Title: "←MODE"},
		{Title: "REDIRECTED→", Right: true},
		{Title: "←REDIRECTED", Right: true},
		{Title: "TCP→", Right: true, Drop: 2},
		{Title: "←TCP", Right: true, Drop: 2},
		{Title: "AGE", Right: true, Drop: 1},
	}}
	t.With(rates, term.Column{Title: "RATE→", Right: true}, term.Column{Title: "←RATE", Right: true})
	t.With(wide, term.Column{Title: "BACKLOG→", Right: true}, term.Column{Title: "←BACKLOG", Right: true})
	for i := range pairs {
		t.Add(pairCells(&pairs[i], wide, rates)...)
	}
	return t
}

func pairCells(p *live.Pair, wide, rates bool) []string {
	// each returns the values of both ends, "" for an end that is not there.
	each := func(say func(f *live.Flow) string) (cells []string) {
		for _, f := range []*live.Flow{p.Client, p.Server} {
			if f == nil {
				cells = append(cells, "")
			} else {
				cells = append(cells, say(f))
			}
		}
		return cells
	}
	first := p.Ends()[0]
	ends := []string{first.Local.String(), first.Remote.String(), first.Labels[0], first.Labels[1]}
	if p.Client == nil {
		ends = []string{first.Remote.String(), first.Local.String(), first.Labels[1], first.Labels[0]}
	}
	cells := append(ends, each((*live.Flow).ModeText)...)
	cells = append(cells, each(func(f *live.Flow) string { return term.CompactBytes(f.RedirectedBytes) })...)
	cells = append(cells, each(func(f *live.Flow) string { return term.CompactBytes(f.TCPBytes) })...)
	cells = append(cells, term.Age(term.Seconds(first.AgeSeconds)))
	if rates {
		cells = append(cells,
			each(func(f *live.Flow) string { return term.CompactRate(f.PerSecond().Bytes()) })...)
	}
	if wide {
		// The backlog of one end was sent by the other.
		backlog := each(func(f *live.Flow) string { return term.CompactBytes(uint64(f.BacklogBytes)) })
		cells = append(cells, backlog[1], backlog[0])
	}
	return cells
}

func cookieText(cookie uint64) string {
	if cookie == 0 {
		return ""
	}
	return strconv.FormatUint(cookie, 10)
}
