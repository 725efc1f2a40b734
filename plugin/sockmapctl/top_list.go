// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
)

// list is the titles and the rows that the screen has room for.
func (m *topModel) list() []string {
	rows := m.rows()
	room := m.rowsShown()
	m.offset = max(0, min(m.offset, len(rows)-room))
	if len(rows) == 0 {
		text := "no flow is open between containers of this node"
		if m.filter != "" {
			text = "nothing contains what is filtered for; esc shows all"
		}
		return []string{topFaint.Render(text)}
	}
	shown := rows[m.offset:min(len(rows), m.offset+room)]
	t := flowList(shown, m.width)
	if m.pods {
		t = podList(shown)
	}
	var b strings.Builder
	if _, err := t.write(&b, m.width, true); err != nil {
		return []string{err.Error()} // a strings.Builder takes everything
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// flowList cuts names only where leaving out what matters less does not help.
func flowList(rows []topRow, width int) *table {
	client, server := 18, 22
	if width < 80 {
		client, server = 10, 12
	}
	t := &table{columns: []column{
		{title: "CLIENT", min: client, keepEnd: true},
		{title: "SERVER", min: server, keepEnd: true},
		{title: "FROM", min: 20, keepEnd: true, drop: 7},
		{title: "MODE", drop: 1},
		{title: "REASON", min: 15, drop: 2},
		{title: "RATE", right: true},
		{title: "SHARE", right: true},
		{title: "TCP", right: true, drop: 3},
		{title: "MSGS/S", right: true, drop: 5},
		{title: "BACKLOG", right: true, drop: 4},
		{title: "AGE", right: true, drop: 6},
	}}
	for i := range rows {
		r := &rows[i]
		t.add(r.name, r.to, r.at, r.mode, r.reason, compactRate(r.rate()), shareText(r), compactRate(r.tcp),
			humanCount(uint64(r.messages+0.5)), compactBytes(r.backlog), humanAge(seconds(r.age)))
	}
	t.paint = func(row, column int, text string) string {
		if row < 0 {
			return topTitle.Render(text)
		}
		switch t.columns[column].title {
		case "MODE":
			return modeStyle(rows[row].mode).Render(text)
		case "REASON":
			return topYellow.Render(text)
		case "SHARE":
			return shareStyle(&rows[row]).Render(text)
		case "FROM", "AGE":
			return topFaint.Render(text)
		}
		return text
	}
	return t
}

func podList(rows []topRow) *table {
	t := &table{columns: []column{
		{title: "POD", min: 10, keepEnd: true},
		{title: "SOCKETS", right: true, drop: 3},
		{title: "ON-TCP", right: true, drop: 2},
		{title: "OUT", right: true},
		{title: "IN", right: true, drop: 5},
		{title: "SHARE", right: true},
		{title: "TCP", right: true, drop: 4},
		{title: "MSGS/S", right: true, drop: 7},
		{title: "BACKLOG", right: true, drop: 6},
		{title: "REASONS", min: 8, drop: 1},
	}}
	for i := range rows {
		r := &rows[i]
		t.add(r.name, strconv.Itoa(r.flows), strconv.Itoa(r.onTCP), compactRate(r.rate()), compactRate(r.in), shareText(r),
			compactRate(r.tcp), humanCount(uint64(r.messages+0.5)), compactBytes(r.backlog), rankedText(r.reasons))
	}
	t.paint = func(row, column int, text string) string {
		if row < 0 {
			return topTitle.Render(text)
		}
		switch t.columns[column].title {
		case "SHARE":
			return shareStyle(&rows[row]).Render(text)
		case "REASONS":
			return topYellow.Render(text)
		}
		return text
	}
	return t
}

// shareText is whole percents, so that the column does not flicker, and tells nothing that is not so.
func shareText(r *topRow) string {
	s := r.share()
	switch {
	case s < 0:
		return ""
	case s > 0 && s < 0.01:
		return "<1%"
	case s > 0.99 && s < 1:
		return ">99%"
	}
	return strconv.Itoa(int(s*100+0.5)) + "%"
}

func shareStyle(r *topRow) lipgloss.Style {
	switch s := r.share(); {
	case s < 0:
		return topFaint
	case s < 0.5:
		return topYellow
	}
	return topGreen
}

func modeStyle(mode string) lipgloss.Style {
	switch mode {
	case datapath.ModeRedirect.String():
		return topGreen
	case datapath.ModeTCP.String(), datapath.ModeLeft.String():
		return topYellow
	}
	return topFaint
}
