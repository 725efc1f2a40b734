// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"
)

// optional columns are there when wide, or while watching.
func (t *table) with(yes bool, columns ...column) {
	if yes {
		t.columns = append(t.columns, columns...)
	}
}

func flowTable(flows []flowView, wide, rates bool) *table {
	t := &table{columns: []column{
		{title: "LOCAL", min: 12, keepEnd: true},
		{title: "REMOTE", min: 12, keepEnd: true},
		{title: "CONTAINER", min: 10, keepEnd: true},
		{title: "PEER", min: 10, keepEnd: true, drop: 5},
		{title: "ROLE", drop: 2},
		{title: "MODE"},
		{title: "REASON", min: 7},
		{title: "REDIRECTED", right: true},
		{title: "MSGS", right: true, drop: 4},
		{title: "TCP", right: true},
		{title: "TCP-MSGS", right: true, drop: 3},
		{title: "AGE", right: true, drop: 1},
	}}
	t.with(rates, column{title: "REDIRECTED/S", right: true}, column{title: "TCP/S", right: true})
	t.with(wide, column{title: "BACKLOG", right: true}, column{title: "STATE"}, column{title: "NETNS", right: true},
		column{title: "PEER-NETNS", right: true}, column{title: "COOKIE", right: true})
	for i := range flows {
		f := &flows[i]
		cells := []string{
			f.Local.String(), f.Remote.String(), f.labels[0], f.labels[1], f.Role, f.Mode, f.Reason,
			compactBytes(f.RedirectedBytes), humanCount(f.RedirectedMessages),
			compactBytes(f.TCPBytes), humanCount(f.TCPMessages), humanAge(seconds(f.AgeSeconds)),
		}
		if rates {
			cells = append(cells, compactRate(f.rate().RedirectedBytes), compactRate(f.rate().TCPBytes))
		}
		if wide {
			cells = append(cells, compactBytes(uint64(f.BacklogBytes)), tcpStateName(f.TCPState),
				cookieText(f.NetNSCookie), cookieText(f.PeerNetNSCookie), cookieText(f.SocketCookie))
		}
		t.add(cells...)
	}
	return t
}

// pairTable has two values in many cells: of what the client sent, and of what the server sent.
func pairTable(pairs []pairView, wide, rates bool) *table {
	t := &table{columns: []column{
		{title: "CLIENT", min: 12, keepEnd: true},
		{title: "SERVER", min: 12, keepEnd: true},
		{title: "CONTAINER", min: 10, keepEnd: true},
		{title: "PEER", min: 10, keepEnd: true, drop: 3},
		{title: "MODE→", right: true},
		{title: "←MODE"},
		{title: "REDIRECTED→", right: true},
		{title: "←REDIRECTED", right: true},
		{title: "TCP→", right: true, drop: 2},
		{title: "←TCP", right: true, drop: 2},
		{title: "AGE", right: true, drop: 1},
	}}
	t.with(rates, column{title: "RATE→", right: true}, column{title: "←RATE", right: true})
	t.with(wide, column{title: "BACKLOG→", right: true}, column{title: "←BACKLOG", right: true})
	for i := range pairs {
		t.add(pairCells(&pairs[i], wide, rates)...)
	}
	return t
}

func pairCells(p *pairView, wide, rates bool) []string {
	// each tells what the function says of both ends, "" for one that is not there.
	each := func(say func(f *flowView) string) (cells []string) {
		for _, f := range []*flowView{p.Client, p.Server} {
			if f == nil {
				cells = append(cells, "")
			} else {
				cells = append(cells, say(f))
			}
		}
		return cells
	}
	first := p.ends()[0]
	ends := []string{first.Local.String(), first.Remote.String(), first.labels[0], first.labels[1]}
	if p.Client == nil {
		ends = []string{first.Remote.String(), first.Local.String(), first.labels[1], first.labels[0]}
	}
	cells := append(ends, each((*flowView).modeText)...)
	cells = append(cells, each(func(f *flowView) string { return compactBytes(f.RedirectedBytes) })...)
	cells = append(cells, each(func(f *flowView) string { return compactBytes(f.TCPBytes) })...)
	cells = append(cells, humanAge(seconds(first.AgeSeconds)))
	if rates {
		cells = append(cells, each(func(f *flowView) string { return compactRate(f.rate().bytes()) })...)
	}
	if wide {
		// What waits at one end is what the other has sent.
		backlog := each(func(f *flowView) string { return compactBytes(uint64(f.BacklogBytes)) })
		cells = append(cells, backlog[1], backlog[0])
	}
	return cells
}

// modeText is the mode, with the reason if there is one, as one word.
func (f *flowView) modeText() string {
	if f.Reason == "" {
		return f.Mode
	}
	return f.Mode + ":" + f.Reason
}

func cookieText(cookie uint64) string {
	if cookie == 0 {
		return ""
	}
	return strconv.FormatUint(cookie, 10)
}

// compactRate is bytes in a second, as one word.
func compactRate(perSecond float64) string { return compactBytes(uint64(perSecond+0.5)) + "/s" }

// tcpStates are the names of include/net/tcp_states.h, as ss has them.
var tcpStates = strings.Fields("- ESTAB SYN-SENT SYN-RECV FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT CLOSED CLOSE-WAIT LAST-ACK LISTEN CLOSING NEW-SYN")

func tcpStateName(state uint8) string {
	if int(state) < len(tcpStates) {
		return tcpStates[state]
	}
	return strconv.Itoa(int(state))
}
