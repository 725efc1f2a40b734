// SPDX-License-Identifier: Apache-2.0

package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/live"
	"github.com/sockmap-cni/sockmap-cni/plugin/sockmapctl/internal/term"
)

// row is one line of the list: a pair, or a pod.
type row struct {
	name, to, at    string // to and at are empty for pods
	mode, reason    string
	redirected      float64 // bytes a second
	tcp, in         float64
	messages        float64
	backlog         uint64
	age             float64
	flows, onTCP    int
	reasons         map[string]uint64
	sent, sentByTCP uint64 // bytes so far, for what is silent now
}

func (r *row) rate() float64 { return r.redirected + r.tcp }

// share is the redirected part of the current rate, or of all bytes if the flow is silent now; -1: nothing
// was sent.
func (r *row) share() float64 {
	switch {
	case r.rate() > 0:
		return r.redirected / r.rate()
	case r.sent > 0:
		return 1 - float64(r.sentByTCP)/float64(r.sent)
	}
	return -1
}

// orders are the ways to sort. Equal rows are sorted by name.
var orders = []struct {
	name string
	by   func(a, b *row) int
}{
	{"rate", func(a, b *row) int { return cmp.Compare(b.rate(), a.rate()) }},
	{"tcp", func(a, b *row) int { return cmp.Compare(b.tcp, a.tcp) }},
	{"share", func(a, b *row) int { return cmp.Compare(a.rank(), b.rank()) }},
	{"backlog", func(a, b *row) int { return cmp.Compare(b.backlog, a.backlog) }},
	{"age", func(a, b *row) int { return cmp.Compare(b.age, a.age) }},
	{"name", func(a, b *row) int { return 0 }},
}

// rank puts the smallest share first, and rows that have sent nothing last.
func (r *row) rank() float64 {
	if s := r.share(); s >= 0 {
		return s
	}
	return 2
}

// rows are those of the view, those that contain the text of the search, sorted.
func (m *model) rows() []row {
	var rows []row
	if m.pods {
		rows = podRows(m.sample.Flows)
	} else {
		rows = pairRows(m.sample.Flows)
	}
	if m.search != "" {
		rows = slices.DeleteFunc(rows, func(r row) bool { return !r.contains(m.search) })
	}
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(orders[m.sort].by(&a, &b), cmp.Compare(a.name, b.name), cmp.Compare(a.to, b.to),
			cmp.Compare(a.at, b.at))
	})
	return rows
}

func (r *row) contains(text string) bool {
	for _, s := range []string{r.name, r.to, r.at, r.mode, r.reason, rankedText(r.reasons)} {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}

func pairRows(flows []live.Flow) []row {
	pairs := live.PairUp(flows)
	rows := make([]row, 0, len(pairs))
	for i := range pairs {
		rows = append(rows, pairRow(&pairs[i]))
	}
	return rows
}

func pairRow(p *live.Pair) row {
	first := p.Ends()[0]
	client, server := first.Local, first.Remote
	clientName, serverName := first.Labels[0], first.Labels[1]
	if p.Client == nil {
		client, server, clientName, serverName = server, client, serverName, clientName
	} else if p.Server != nil {
		server = p.Server.Local // after DNAT
	}
	r := row{
		name: cmp.Or(clientName, client.Addr().String()),
		to:   fmt.Sprintf("%s:%d", cmp.Or(serverName, server.Addr().String()), server.Port()),
		at:   client.String(), mode: datapath.ModePending.String(), age: first.AgeSeconds,
	}
	for i, f := range p.Ends() {
		r.add(f)
		r.backlog += uint64(f.BacklogBytes)
		switch f.Mode {
		case datapath.ModeTCP.String(), datapath.ModeLeft.String():
			r.mode = f.Mode
			arrow := "→"
			if i == 1 || p.Client == nil {
				arrow = "←"
			}
			r.reason = strings.TrimPrefix(r.reason+" "+arrow+f.Reason, " ")
		case datapath.ModeRedirect.String():
			if r.mode == datapath.ModePending.String() {
				r.mode = f.Mode
			}
		}
	}
	return r
}

func (r *row) add(f *live.Flow) {
	r.redirected += f.PerSecond().RedirectedBytes
	r.tcp += f.PerSecond().TCPBytes
	r.messages += f.PerSecond().Messages
	r.sent += f.RedirectedBytes + f.TCPBytes
	r.sentByTCP += f.TCPBytes
}

func podRows(flows []live.Flow) []row {
	byName := map[string]*row{}
	of := func(name string) *row {
		if byName[name] == nil {
			byName[name] = &row{name: name, reasons: map[string]uint64{}}
		}
		return byName[name]
	}
	for i := range flows {
		f := &flows[i]
		r := of(f.Labels[0])
		r.add(f)
		r.flows++
		r.backlog += uint64(f.BacklogBytes)
		r.age = max(r.age, f.AgeSeconds)
		if f.Reason != "" {
			r.onTCP++
			r.reasons[f.Reason]++
		}
		if f.Labels[1] != "" && f.Joined {
			of(f.Labels[1]).in += f.PerSecond().Bytes()
		}
	}
	rows := make([]row, 0, len(byName))
	for _, r := range byName {
		rows = append(rows, *r)
	}
	return rows
}

// rankedText is "unread 3, no-peer 1", the most frequent first.
func rankedText(counts map[string]uint64) string {
	var parts []string
	for _, c := range live.Ranked(counts) {
		parts = append(parts, fmt.Sprintf("%s %s", c.Reason, term.Count(c.Count)))
	}
	return strings.Join(parts, ", ")
}
